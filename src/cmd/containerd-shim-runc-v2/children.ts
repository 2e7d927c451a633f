import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { Children } from "#shim/children.ts";

const defaultSearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Ours alone. NOTIFY_SOCKET would make runc wait for the container to speak systemd's protocol. */
const notInherited = ["NOTIFY_SOCKET", "CONTAINERD_NOFILE_SOFT", "CONTAINERD_SHIM_FAILPOINTS"];

/** The environment of runtimes and loggers. */
export function childEnv(): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && !notInherited.includes(entry[0]),
  );
  return Object.fromEntries(kept);
}

/** The soft limit of open files from before Node raised it, as `bin/*` leave it. */
export function nofileSoft(): number | undefined {
  const soft = Number(process.env["CONTAINERD_NOFILE_SOFT"]);
  return Number.isSafeInteger(soft) && soft > 0 ? soft : undefined;
}

export function searchPath(): string {
  return process.env["PATH"] ?? defaultSearchPath;
}

/** Children of a process that supervises nothing. */
export function standaloneChildren(): Disposable & { children: Children; searchPath: string } {
  const reaper = new Reaper({ sys: linux, mode: "known" });
  const children = new Children({
    sys: linux,
    spawn: spawnProcess,
    reaper,
    env: childEnv(),
    nofileSoft: nofileSoft(),
  });
  return { children, searchPath: searchPath(), [Symbol.dispose]: () => reaper.close() };
}
