import { readFile, readdir } from "node:fs/promises";
import { isErrno } from "#pkg/errors.ts";

/**
 * What a whole test run may leave on the machine, beyond the rooms of its tests.
 *
 * The folders that every containerd shares are no leaks, only what stays in them; and not /run/containerd/fifo, where
 * `ctr run --detach` leaves the folder of its pipes by design.
 */
export type Machine = ReadonlySet<string>;

export async function surveyMachine(): Promise<Machine> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  const groups = await Promise.all(
    [
      "/sys/fs/cgroup",
      "/sys/fs/cgroup/unified",
      "/sys/fs/cgroup/freezer",
      "/sys/fs/cgroup/pids",
    ].map((path) => names(path)),
  );
  return new Set([
    ...mounts.filter(Boolean).map((line) => `mount ${line.split(" ").slice(3, 5).join(" on ")}`),
    ...(await names("/run/netns")).map((path) => `network namespace ${path}`),
    ...(await names("/run/containerd/runc")).map((path) => `runtime state ${path}`),
    ...(await names("/run/containerd/s")).map((path) => `socket ${path}`),
    ...(await names("/tmp"))
      .filter((path) => path.includes("/ctrd-"))
      .map((path) => `file ${path}`),
    ...groups.flat().map((path) => `cgroup ${path}`),
  ]);
}

async function names(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries
      .filter((entry) => !directory.startsWith("/sys") || entry.isDirectory())
      .map((entry) => `${directory}/${entry.name}`);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
