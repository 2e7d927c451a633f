import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { debianProgram } from "#test/support/debian.ts";
import { isErrno } from "#pkg/errors.ts";

const answers = new Map<string, string | undefined>();

/**
 * What an OCI runtime says when it cannot start a container on this machine; undefined when it can.
 *
 * Asked by starting one: what a runtime needs of cgroups and namespaces is not to be guessed. The answer is kept.
 */
export function runtimeRefusal(runtime: string): string | undefined {
  if (!answers.has(runtime)) answers.set(runtime, probe(runtime));
  return answers.get(runtime);
}

/** For when the machine has been changed. */
export function forgetRefusals(): void {
  answers.clear();
}

function probe(runtime: string): string | undefined {
  const bundle = mkdtempSync("/tmp/ctrd-probe-");
  const id = basename(bundle);
  try {
    mkdirSync(join(bundle, "rootfs/bin"), { recursive: true });
    mkdirSync(join(bundle, "rootfs/proc"));
    mkdirSync(join(bundle, "rootfs/dev"));
    copyFileSync(debianProgram("busybox"), join(bundle, "rootfs/bin/busybox"));
    writeFileSync(join(bundle, "config.json"), JSON.stringify(smallestSpec(id)));
    const PATH = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
    const result = spawnSync(
      runtime,
      ["--root", join(bundle, "state"), "run", "--bundle", bundle, id],
      { encoding: "utf8", env: { PATH }, timeout: 20_000, stdio: ["ignore", "pipe", "pipe"] },
    );
    if (result.status === 0) return undefined;
    const words = result.error?.message ?? result.stderr.trim().split("\n").at(-1) ?? "";
    return `${runtime} cannot start a container here: ${words}`;
  } finally {
    rmSync(bundle, { recursive: true, force: true });
    removeEmptyCgroup(`/sys/fs/cgroup/unified/${id}`);
  }
}

/** crun leaves this one behind where it refuses a hybrid hierarchy. */
function removeEmptyCgroup(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

function smallestSpec(id: string): object {
  return {
    ociVersion: "1.0.2",
    process: { user: { uid: 0, gid: 0 }, args: ["/bin/busybox", "true"], cwd: "/" },
    root: { path: "rootfs" },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: { namespaces: [{ type: "pid" }, { type: "mount" }], cgroupsPath: `/${id}` },
  };
}
