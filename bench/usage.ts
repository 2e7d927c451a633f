import { readFile, readlink } from "node:fs/promises";
import { runOk } from "#test/support/command.ts";
import { descendantsOf, type ProcessInfo } from "#test/support/processes.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Side } from "./side.ts";

export interface Memory {
  /** Megabytes; each shared page counts in parts, one for each process that has it. */
  readonly pssMb: number;
  /** Megabytes nobody else has. */
  readonly privateMb: number;
}

/** What the daemon itself and its shims or supervisors hold; containers' own processes are not counted. */
export async function memoryOf(side: Side, containers: readonly number[]): Promise<Memory> {
  const processes = await machinery(side, new Set(containers));
  const parts = await Promise.all(processes.map(({ pid }) => memoryOfProcess(pid)));
  return parts.reduce((sum, part) => ({
    pssMb: sum.pssMb + part.pssMb,
    privateMb: sum.privateMb + part.privateMb,
  }));
}

/**
 * The daemon first. Shims are no children of it, but orphans adopted by this process; each names the daemon it
 * belongs to in its arguments or its working directory.
 */
async function machinery(side: Side, containers: ReadonlySet<number>): Promise<ProcessInfo[]> {
  const { daemon } = side;
  const all = await descendantsOf(process.pid);
  const others: ProcessInfo[] = [];
  for (const info of all) {
    if (info.pid === daemon.pid || containers.has(info.pid) || info.state === "Z") continue;
    const own = [daemon.address, daemon.root, daemon.state];
    const where = `${info.command} ${await workingDirectory(info.pid)}`;
    if (own.some((path) => where.includes(path))) others.push(info);
  }
  const first = all.find((info) => info.pid === daemon.pid);
  if (first === undefined) throw new Error(`${side.kind}: the daemon is gone`);
  return [first, ...others];
}

async function workingDirectory(pid: number): Promise<string> {
  try {
    return await readlink(`/proc/${pid}/cwd`);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return "";
    throw error;
  }
}

async function memoryOfProcess(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const kilobytes = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN);
  const pssMb = kilobytes("Pss") / 1024;
  return { pssMb, privateMb: (kilobytes("Private_Clean") + kilobytes("Private_Dirty")) / 1024 };
}

/** Milliseconds of processor time the daemon has used since it started, in the kernel and outside. */
export async function processorMs(side: Side, ticksPerSecond: number): Promise<number> {
  const stat = await readFile(`/proc/${side.daemon.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

export async function clockTicksPerSecond(): Promise<number> {
  return Number(await runOk(["getconf", "CLK_TCK"]));
}
