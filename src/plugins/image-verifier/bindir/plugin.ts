import * as v from "valibot";
import type { ImageVerifier } from "#core/images/image-verifier.ts";
import { SpawnedPrograms, type SpawnedProgramsOptions } from "#core/runtime/spawned-programs.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { durationMs } from "#pkg/plugin/duration-setting.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { BindirVerifier } from "#plugins/image-verifier/bindir/bindir-verifier.ts";
import { ImageVerifierPlugin } from "#plugins/types.ts";

export interface VerifierHost extends SpawnedProgramsOptions {
  /** What verifiers are run with. */
  readonly env: Readonly<Record<string, string>>;
}

const schema = v.object({
  bin_dir: v.string(),
  max_verifiers: v.pipe(v.number(), v.integer()),
  per_verifier_timeout: durationMs,
});

export function bindirVerifier(host: VerifierHost) {
  return definePlugin({
    type: ImageVerifierPlugin,
    id: "bindir",
    requires: {},
    config: pluginConfig(schema, {
      bin_dir: "/opt/containerd/image-verifier/bin",
      max_verifiers: 10,
      per_verifier_timeout: "10s",
    }),
    async init({ config }): Promise<ImageVerifier> {
      return new BindirVerifier({
        binDir: config.bin_dir,
        verifiersMax: config.max_verifiers,
        timeoutMs: config.per_verifier_timeout,
        programs: new SpawnedPrograms(host),
        env: host.env,
      });
    },
  });
}
