import { readFile } from "node:fs/promises";
import { isInUserNamespace } from "#core/mount/user-namespace.ts";
import type { SandboxHost } from "#cri/podsandbox/parts.ts";
import { hostMaskedPaths } from "#pkg/oci/default-spec.ts";

/** The machine that the daemon runs on; what does not change is asked for once. */
export function sandboxHost(): SandboxHost {
  let maskedPaths: Promise<readonly string[]> | undefined;
  return {
    oomScoreAdj: async () => Number(await readFile("/proc/self/oom_score_adj", "utf8")),
    maskedPaths: () => (maskedPaths ??= hostMaskedPaths()),
    hasSeccomp: async () => /^Seccomp:/m.test(await readFile("/proc/self/status", "utf8")),
    isInUserNamespace,
  };
}
