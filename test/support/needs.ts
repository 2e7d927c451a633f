import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { hasNewer } from "#test/support/debian.ts";
import { runtimeRefusal } from "#test/support/runtime-probe.ts";

/** What a test may need of the machine; `trixie` and `sid`: the programs of those Debian releases, see debian.ts. */
export type Need =
  | "root"
  | "runc"
  | "crun"
  | "cni"
  | "overlayfs"
  | "iptables"
  | "go"
  | "loop"
  | "trixie"
  | "sid";

/** Why the machine does not have all of these; undefined when it does. Becomes the reason of a skip. */
export function whyNot(needs: readonly Need[]): string | undefined {
  for (const need of needs) {
    const reason = checks[need]();
    if (reason !== undefined) return reason;
  }
  return undefined;
}

const checks: Readonly<Record<Need, () => string | undefined>> = {
  root: () => (process.getuid?.() === 0 ? undefined : "needs root"),
  runc: () => onPath("runc") ?? runtimeRefusal("runc"),
  crun: () => onPath("crun") ?? runtimeRefusal("crun"),
  iptables: () => onPath("iptables"),
  go: () => onPath("go"),
  loop: () =>
    onPath("mkfs.ext4") ?? (existsSync("/dev/loop-control") ? undefined : "needs loop devices"),
  trixie: () => (hasNewer("trixie") ? undefined : "needs Debian trixie's containerd"),
  sid: () => (hasNewer("sid") ? undefined : "needs Debian sid's containerd"),
  cni: () =>
    existsSync("/usr/lib/cni/bridge") || existsSync("/opt/cni/bin/bridge")
      ? undefined
      : "needs the CNI plugins",
  overlayfs: () =>
    /\toverlay$/m.test(readFileSync("/proc/filesystems", "utf8"))
      ? undefined
      : "needs overlayfs in the kernel",
};

function onPath(command: string): string | undefined {
  return commandPath(command) === undefined ? `needs ${command} on PATH` : undefined;
}

/** Where a command is: on PATH, or in the folders of system commands that PATH may lack. */
export function commandPath(command: string): string | undefined {
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/go/bin",
  ];
  for (const folder of folders) {
    const path = join(folder, command);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue; // -- not here: the next folder is asked
    }
  }
  return undefined;
}
