import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { PR, PR_SCHED_CORE_CREATE, PR_SCHED_CORE_SCOPE } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Puts a process into a cgroup of each hierarchy that has one at this path, as option `ShimCgroup`
 * asks. Throws in upstream's words where none has it.
 *
 * `mountinfo` is that of this process: with any hierarchy of version 1 those count alone, as
 * upstream has it.
 */
export function joinCgroup(path: string, pid: number, mountinfo: string): void {
  const { version, roots } = parseHierarchies(mountinfo);
  const groups = roots.map((root) => join(root, path)).filter((group) => existsSync(group));
  if (groups.length === 0) {
    const words =
      version === 1
        ? `failed to load cgroup ${path}: cgroup deleted`
        : `failed to join cgroup ${path}: no such file or directory`;
    throw new CodedError("unknown", words);
  }
  try {
    for (const group of groups) writeFileSync(join(group, "cgroup.procs"), String(pid));
  } catch (error) {
    const words = `failed to join cgroup ${path}: ${messageOf(error)}`;
    throw new CodedError("unknown", words, { cause: error });
  }
}

export function ownMountinfo(): string {
  return readFileSync("/proc/self/mountinfo", "utf8");
}

/**
 * Gives the process group of this process a core-scheduling cookie: what it starts shares a core
 * with nothing else. Throws in upstream's words where the kernel cannot.
 */
export function createSchedCore(sys: Pick<Syscalls, "prctl">): void {
  try {
    sys.prctl(PR.SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE.PROCESS_GROUP);
  } catch (error) {
    const words = `enable sched core support: ${messageOf(error)}`;
    throw new CodedError("unknown", words, { cause: error });
  }
}

function parseHierarchies(mountinfo: string): { version: 1 | 2; roots: readonly string[] } {
  const roots = { cgroup: new Set<string>(), cgroup2: new Set<string>() };
  for (const line of mountinfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const [type = ""] = after.split(" ");
    const point = before.split(" ")[4];
    if (point !== undefined && (type === "cgroup" || type === "cgroup2")) roots[type].add(point);
  }
  return roots.cgroup.size > 0
    ? { version: 1, roots: [...roots.cgroup] }
    : { version: 2, roots: [...roots.cgroup2] };
}
