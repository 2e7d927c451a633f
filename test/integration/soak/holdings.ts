import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import { isDeepStrictEqual } from "node:util";
import type { TaskClient } from "#test/integration/contract/task-client.ts";
import { descendantsOf, openFilesOf, until } from "#test/support/processes.ts";

/**
 * Everything on the machine that a container may leave behind: what daemon and supervisors hold open, processes below
 * them (zombies too), mounts, cgroups, bundles, and what the OCI runtime keeps.
 */
export type Holdings = Readonly<Record<string, readonly string[]>>;

export async function holdingsOf(client: TaskClient): Promise<Holdings> {
  const { room, daemon } = client;
  const processes = await descendantsOf(process.pid);
  const supervisors = processes.filter(({ command }) => isSupervisor(command, room.namespace));
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  const state = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace);
  const root = join(daemon.root, "io.containerd.runtime.v2.task", room.namespace);
  return {
    // The database opens its file as often as it has readers at a time, and keeps them.
    "files of the daemon": (await openFilesOf(daemon.pid)).filter(
      (f) => !f.includes("meta.sqlite"),
    ),
    "files of supervisors": (
      await Promise.all(supervisors.map(({ pid }) => openFilesOf(pid)))
    ).flat(),
    processes: processes.map(({ state: s, command }) =>
      s === "Z" ? `zombie ${command}` : command,
    ),
    mounts: mounts.map((line) => line.split(" ")[4] ?? "").filter((at) => at.startsWith(room.dir)),
    cgroups: await cgroupsBelow(room.namespace),
    bundles: await namesIn(state),
    "work folders": await namesIn(root),
    "runtime state": await namesIn(join("/run/containerd/runc", room.namespace)),
  };
}

/** Waits until the machine holds what it did before; fails naming what is more or less. */
export async function untilHeld(client: TaskClient, before: Holdings): Promise<void> {
  let now = before;
  try {
    await until(
      "what is held is as before",
      async () => {
        now = await holdingsOf(client);
        return isDeepStrictEqual(sorted(now), sorted(before));
      },
      { timeoutMs: 30_000, everyMs: 250 },
    );
  } catch (error) {
    const lines = Object.keys(before).flatMap((kind) => difference(kind, before[kind], now[kind]));
    throw new Error(`held is not what was:\n  ${lines.join("\n  ")}`, { cause: error });
  }
}

/** Resident memory of the daemon and of its supervisors, in MiB. */
export async function memoryOf(client: TaskClient): Promise<string> {
  const processes = await descendantsOf(process.pid);
  const supervisors = processes.filter(({ command }) =>
    isSupervisor(command, client.room.namespace),
  );
  const sizes = await Promise.all(
    [client.daemon.pid, ...supervisors.map(({ pid }) => pid)].map(rssMib),
  );
  return `daemon ${sizes[0]} MiB, supervisor ${sizes.slice(1).join(" and ")} MiB`;
}

export async function supervisorPids(client: TaskClient): Promise<number[]> {
  const processes = await descendantsOf(process.pid);
  return processes
    .filter(({ command }) => isSupervisor(command, client.room.namespace))
    .map(({ pid }) => pid);
}

function isSupervisor(command: string, namespace: string): boolean {
  return command.includes(namespace) && command.endsWith(" supervise");
}

function sorted(holdings: Holdings): Holdings {
  return Object.fromEntries(Object.entries(holdings).map(([k, list]) => [k, list.toSorted()]));
}

function difference(
  kind: string,
  before: readonly string[] = [],
  now: readonly string[] = [],
): string[] {
  const more = subtract(now, before).map((thing) => `${kind}: more ${thing}`);
  const less = subtract(before, now).map((thing) => `${kind}: less ${thing}`);
  return [...more, ...less];
}

function subtract(from: readonly string[], what: readonly string[]): string[] {
  const left = [...from];
  for (const thing of what) {
    const at = left.indexOf(thing);
    if (at >= 0) left.splice(at, 1);
  }
  return left;
}

async function cgroupsBelow(namespace: string): Promise<string[]> {
  const base = "/sys/fs/cgroup";
  const hierarchies = ["", ...(await namesIn(base))];
  const found = await Promise.all(
    hierarchies.map(async (hierarchy) => {
      const parent = join(base, hierarchy, namespace);
      const entries = await readdirOr(parent);
      return entries.filter((e) => e.isDirectory()).map((e) => join(parent, e.name));
    }),
  );
  return found.flat();
}

async function namesIn(path: string): Promise<string[]> {
  return (await readdirOr(path)).map(({ name }) => name);
}

async function readdirOr(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

async function rssMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024);
}
