import { readFile, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import { run } from "#test/support/command.ts";
import { descendantsOf, killIfThere, type ProcessInfo } from "#test/support/processes.ts";

/** What belongs to one room: paths below `dir`, names that contain `namespace`, descendants of this process. */
export interface Scope {
  readonly dir: string;
  readonly namespace: string;
}

export interface Baseline extends Scope {
  readonly processes: ReadonlySet<string>;
  readonly networkNamespaces: ReadonlySet<string>;
}

export async function takeBaseline(scope: Scope): Promise<Baseline> {
  const processes = await descendantsOf(process.pid);
  return {
    ...scope,
    processes: new Set(processes.map(identity)),
    networkNamespaces: new Set(await namedNetworkNamespaces()),
  };
}

/**
 * Names what the room has left; empty when the machine is as before.
 *
 * Waits up to `settleMs` for that: the end of a process and an unmount are seen a little later than they happen.
 */
export async function findLeaks(baseline: Baseline, settleMs: number): Promise<string[]> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const leaks = await leaksNow(baseline);
    if (leaks.length === 0 || performance.now() > deadline) return leaks;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
}

async function leaksNow(baseline: Baseline): Promise<string[]> {
  const processes = await newProcesses(baseline);
  const networkNamespaces = (await namedNetworkNamespaces()).filter(
    (name) => !baseline.networkNamespaces.has(name),
  );
  return [
    ...processes.map((info) => `process ${info.pid} (${info.state}): ${info.command}`),
    ...(await mountsOf(baseline)).map((path) => `mount ${path}`),
    ...(await socketsOf(baseline)).map((path) => `socket ${path}`),
    ...(await cgroupsOf(baseline, { leaves: true })).map((path) => `cgroup ${path}`),
    ...(await subdirectories(runtimeState(baseline))).map((path) => `runtime state ${path}`),
    ...networkNamespaces
      .filter((name) => name.includes(baseline.namespace))
      .map((name) => `network namespace ${name}`),
  ];
}

/** Ends what is left, so that one leak is one failure, and removes the empty folders of the namespace itself. */
export async function endLeftovers(baseline: Baseline): Promise<void> {
  for (const info of await newProcesses(baseline)) killIfThere(info.pid);
  for (const path of await cgroupsOf(baseline, { leaves: true })) {
    const pids = await readFile(join(path, "cgroup.procs"), "utf8");
    for (const pid of pids.split("\n").filter(Boolean)) killIfThere(Number(pid));
  }
  // A lazy unmount of the deepest first: what is busy goes with its last user.
  for (const path of (await mountsOf(baseline)).toReversed()) await run(["umount", "-l", path]);
  for (const path of await cgroupsOf(baseline, { leaves: false })) await removeCgroup(path);
  await rm(runtimeState(baseline), { recursive: true, force: true });
}

/** Where a runtime keeps what it knows of its containers, wherever the daemon has its state. */
function runtimeState(scope: Scope): string {
  return join("/run/containerd/runc", scope.namespace);
}

async function removeCgroup(path: string): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      await rmdir(path);
      return;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return;
      if (!isErrno(error, "EBUSY")) throw error;
    }
    await thaw(path);
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
}

/** A killed process in a frozen cgroup does not die until it is thawed. */
async function thaw(path: string): Promise<void> {
  for (const [file, value] of [
    ["freezer.state", "THAWED"],
    ["cgroup.freeze", "0"],
  ] as const) {
    try {
      await writeFile(join(path, file), value, { flag: "r+" });
    } catch (error) {
      if (!isErrno(error, "ENOENT", "EACCES")) throw error;
    }
  }
}

function identity(info: ProcessInfo): string {
  return `${info.pid}:${info.startTime}`;
}

async function newProcesses(baseline: Baseline): Promise<ProcessInfo[]> {
  const processes = await descendantsOf(process.pid);
  return processes.filter((info) => !baseline.processes.has(identity(info)));
}

/** In the order they were mounted. */
async function mountsOf(scope: Scope): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${scope.dir}/`) || path.includes(scope.namespace));
}

async function socketsOf(scope: Scope): Promise<string[]> {
  const table = await readFile("/proc/net/unix", "utf8");
  return table
    .split("\n")
    .map((line) => line.split(/\s+/)[7] ?? "")
    .filter((path) => path.startsWith(`${scope.dir}/`) || path.includes(scope.namespace));
}

/**
 * Cgroups named after the namespace in any hierarchy, children first. A runtime removes the cgroup of a container and
 * leaves that of the namespace above it, so only the former counts as a leak.
 */
async function cgroupsOf(scope: Scope, { leaves }: { leaves: boolean }): Promise<string[]> {
  const base = "/sys/fs/cgroup";
  const hierarchies = [base, ...(await subdirectories(base))];
  const found: string[] = [];
  for (const hierarchy of hierarchies) {
    const path = join(hierarchy, scope.namespace);
    const below = await descend(path);
    found.push(...(leaves ? below : [...below, path]));
  }
  return found;
}

async function descend(path: string): Promise<string[]> {
  const found: string[] = [];
  for (const child of await subdirectories(path)) found.push(...(await descend(child)), child);
  return found;
}

async function subdirectories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

async function namedNetworkNamespaces(): Promise<string[]> {
  try {
    return await readdir("/run/netns");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
