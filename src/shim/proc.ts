import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { isErrno } from "#pkg/errors.ts";

/** What /proc/PID/stat says; undefined when there is no such process. */
export interface ProcStat {
  /** `Z` for one that has ended and waits for its parent. */
  readonly state: string;
  readonly parentPid: number;
  /** Clock ticks since boot: with the pid, an identity. */
  readonly startTime: string;
  /** The status word of wait(2), set once the state is `Z`; 0 when not ours to see. */
  readonly exitWord: number;
}

export function readProcStat(pid: number): ProcStat | undefined {
  const text = readProcFile(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The name may hold spaces and parentheses.
  const fields = text
    .slice(text.lastIndexOf(")") + 2)
    .trim()
    .split(" ");
  return {
    state: fields[0] ?? "",
    parentPid: Number(fields[1]),
    startTime: fields[19] ?? "",
    exitWord: Number(fields[49] ?? 0),
  };
}

/** The pipes behind a process's first three descriptors, as `pipe:[inode]`. */
export function readPipes(pid: number): Partial<Record<"0" | "1" | "2", string>> {
  const pipes: Partial<Record<"0" | "1" | "2", string>> = {};
  for (const fd of ["0", "1", "2"] as const) {
    const link = tryReadLink(`/proc/${pid}/fd/${fd}`);
    if (link?.startsWith("pipe:")) pipes[fd] = link;
  }
  return pipes;
}

/** Pids of processes that were started with `argument` as one of their arguments. */
export function pidsWithArgument(argument: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => readProcFile(`/proc/${pid}/cmdline`)?.split("\0").includes(argument));
}

function readProcFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
}

function tryReadLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH", "EACCES")) return undefined;
    throw error;
  }
}

/** 0 when there is no such process. */
export function countThreads(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return 0;
    throw error;
  }
}
