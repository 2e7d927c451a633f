import type { ChildProcess } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { readFileSync, readdirSync } from "node:fs";
import koffi from "koffi";
import { isErrno } from "#pkg/errors.ts";

const PR_SET_CHILD_SUBREAPER = 36;
const CLOSE_RANGE_CLOEXEC = 4;
const WNOHANG = 1;

const libc = koffi.load("libc.so.6");
const prctl = libc.func("int prctl(int option, unsigned long value)") as (
  option: number,
  value: number,
) => number; // -- koffi types its functions as any
const closeRange = libc.func("int close_range(unsigned int from, unsigned int to, int flags)") as (
  from: number,
  to: number,
  flags: number,
) => number; // -- koffi types its functions as any
const waitpid = libc.func("int waitpid(int pid, _Out_ int *status, int options)") as (
  pid: number,
  status: number[],
  options: number,
) => number; // -- koffi types its functions as any

let started = false;

/**
 * Makes this process the parent of every orphan below it, and reaps them.
 *
 * Process 1 may reap nothing (a container without an init, a test machine), and a zombie looks alive to whoever asks
 * with a signal. Everything a test starts stays a descendant of the test, so what it leaves can be found and ended.
 * Descriptors this process was born with are kept from children: a daemon would hand them to containers.
 */
export function adoptOrphans(): void {
  if (started) return;
  started = true;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) !== 0) throw new Error("prctl: subreaper refused");
  closeRange(3, 0xffffffff, CLOSE_RANGE_CLOEXEC);
  subscribe("child_process", (message) => {
    // -- what this channel carries
    const { process: child } = message as { process: ChildProcess };
    ours.add(child);
    child.once("exit", () => ours.delete(child));
  });
  reapLater(new Set());
}

/** Children whose exit Node is going to take and tell. */
const ours = new Set<ChildProcess>();

/**
 * Waiting for a child that Node knows would take its exit, and the exit event would never come. A zombie that is not
 * of Node's own making may still be somebody's who waits by number, on SIGCHLD: such a one has gone once the event loop
 * has polled. An immediate runs right after that, whereas two timers may run without a poll in between.
 */
function reapLater(seenBefore: ReadonlySet<number>): void {
  const tick = (): void => {
    const known = new Set([...ours].map((child) => child.pid));
    const zombies = zombieChildren().filter((pid) => !known.has(pid));
    for (const pid of zombies) if (seenBefore.has(pid)) waitpid(pid, [0], WNOHANG);
    reapLater(new Set(zombies));
  };
  setTimeout(() => setImmediate(tick).unref(), 50).unref();
}

function zombieChildren(): number[] {
  const zombies: number[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = readProcFile(`/proc/${entry}/stat`);
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" && Number(parent) === process.pid) zombies.push(Number(entry));
  }
  return zombies;
}

/** Empty where the process has gone meanwhile. */
function readProcFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return "";
    throw error;
  }
}
