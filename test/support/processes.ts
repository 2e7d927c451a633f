import { readFile, readdir, readlink } from "node:fs/promises";
import { isErrno } from "#pkg/errors.ts";

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly state: string;
  /** Together with the pid, this names one process for ever. */
  readonly startTime: string;
  readonly command: string;
}

/** Undefined when there is no such process. */
export async function processInfo(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const close = stat.lastIndexOf(")");
    const fields = stat.slice(close + 2).split(" ");
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8");
    return {
      pid,
      parent: Number(fields[1]),
      state: fields[0] ?? "?",
      startTime: fields[19] ?? "?",
      command: commandLine.replaceAll("\0", " ").trim() || stat.slice(stat.indexOf("("), close + 1),
    };
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
}

/** Kills a process that may have ended by itself meanwhile. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

/** Every process below this one, orphans included once `adoptOrphans` was called. */
export async function descendantsOf(root: number): Promise<ProcessInfo[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const infos = (await Promise.all(pids.map(processInfo))).filter((info) => info !== undefined);
  const byParent = Map.groupBy(infos, (info) => info.parent);
  const found: ProcessInfo[] = [];
  const queue = [root];
  for (let pid = queue.shift(); pid !== undefined; pid = queue.shift()) {
    for (const child of byParent.get(pid) ?? []) {
      found.push(child);
      queue.push(child.pid);
    }
  }
  return found;
}

/**
 * What a process holds open, by kind, to be compared before and after.
 *
 * Event loops and worker threads open epoll, event and timer descriptors as they please; these are left out.
 */
export async function openFilesOf(pid: number): Promise<string[]> {
  const held: string[] = [];
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    let target: string;
    try {
      target = await readlink(`/proc/${pid}/fd/${fd}`);
    } catch (error) {
      if (isErrno(error, "ENOENT")) continue;
      throw error;
    }
    if (/^anon_inode:\[(eventpoll|eventfd|timerfd|io_uring)\]$/.test(target)) continue;
    held.push(target.replace(/:\[\d+\]$/, ""));
  }
  return held.toSorted();
}

/** Polls until the condition holds; throws saying what was waited for when it has not after `timeoutMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  { timeoutMs = 20_000, everyMs = 20 }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, everyMs);
    });
  }
}
