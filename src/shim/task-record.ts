import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { CodedError, isErrno } from "#pkg/errors.ts";
import { writeDurably } from "./durable-file.ts";
import type { OwedEventRecord } from "./owed-events.ts";
import { readPipes, readProcStat } from "./proc.ts";
import type { Stdio } from "./stdio.ts";

/**
 * A process that another supervisor must be able to recognise: a pid alone may mean another one by
 * then.
 */
export interface ProcessRecord {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTime: string;
  /** What /proc/PID/fd said of the container's ends of our pipes (`pipe:[123]`), by descriptor. */
  readonly pipes: Readonly<Partial<Record<"0" | "1" | "2", string>>>;
}

/** Of one that has just been made: what it does with its descriptors later makes no difference. */
export function recordProcess(pid: number): ProcessRecord {
  return { pid, startTime: readProcStat(pid)?.startTime ?? "", pipes: readPipes(pid) };
}

export interface ExecRecord extends ProcessRecord {
  readonly id: string;
  readonly stdio: Stdio;
  /** Of one that has ended and waits to be deleted; `at` in nanoseconds. */
  readonly exit?: { readonly status: number; readonly at: string };
}

/** One that was added and not started: its process lies in the bundle (`exec-files.ts`). */
export interface AddedExecRecord {
  readonly id: string;
  readonly stdio: Stdio;
}

/**
 * What the bundle says about its task to a supervisor that did not make it (`task.json`).
 *
 * `creating` is written before the runtime is started: whoever finds it knows that a creation was
 * cut short. It is removed when the task is deleted.
 */
export interface TaskRecord {
  readonly version: 1;
  readonly id: string;
  readonly namespace: string;
  readonly group: string;
  readonly phase: "creating" | "created" | "running" | "paused";
  readonly runtime: {
    readonly path: string;
    readonly name: string;
    readonly root: string;
    readonly systemdCgroup: boolean;
  };
  readonly stdio: Stdio;
  readonly hasRootfs: boolean;
  readonly hasOwnPidNamespace: boolean;
  readonly init: ProcessRecord | undefined;
  readonly execs: readonly ExecRecord[];
  /** Absent in a record of a supervisor that did not keep them; so is `owed`. */
  readonly added?: readonly AddedExecRecord[];
  /** Of the processes that were killed for want of memory, how many were told of. */
  readonly oomKills?: string;
  /** Told by nobody yet, the oldest first. */
  readonly owed?: readonly OwedEventRecord[];
}

const fileName = "task.json";

export async function writeTaskRecord(bundle: string, record: TaskRecord): Promise<void> {
  await writeDurably(join(bundle, fileName), JSON.stringify(record));
}

export async function removeTaskRecord(bundle: string): Promise<void> {
  await rm(join(bundle, fileName), { force: true });
}

/** Undefined when the bundle holds none. Throws `data-loss` when it cannot be understood. */
export async function readTaskRecord(bundle: string): Promise<TaskRecord | undefined> {
  let text: string;
  try {
    text = await readFile(join(bundle, fileName), "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
  return parseTaskRecord(text);
}

export function parseTaskRecord(text: string): TaskRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CodedError("data-loss", "task.json is no JSON", { cause: error });
  }
  if (!isRecord(value)) throw new CodedError("data-loss", "task.json is not of a known form");
  return value;
}

// The file lies in a directory only root can write to; this guards against other versions, not
// against enemies.
function isRecord(value: unknown): value is TaskRecord {
  if (!isObject(value) || value["version"] !== 1) return false;
  const { id, namespace, group, phase, runtime, stdio, init, execs, added = [], owed = [] } = value;
  const { oomKills = "0" } = value;
  return (
    [id, namespace, group].every(isString) &&
    ["creating", "created", "running", "paused"].includes(String(phase)) &&
    isObject(runtime) &&
    [runtime["path"], runtime["name"], runtime["root"]].every(isString) &&
    isStdio(stdio) &&
    (init === undefined || isProcess(init)) &&
    Array.isArray(execs) &&
    execs.every(isExec) &&
    Array.isArray(added) &&
    added.every(isAddedExec) &&
    Array.isArray(owed) &&
    owed.every(isOwedEvent) &&
    /^\d{1,20}$/.test(String(oomKills))
  );
}

function isAddedExec(value: unknown): boolean {
  return isObject(value) && isString(value["id"]) && isStdio(value["stdio"]);
}

function isOwedEvent(value: unknown): boolean {
  if (!isObject(value) || !/^\d+$/.test(String(value["at"]))) return false;
  return [value["topic"], value["typeUrl"], value["value"]].every(isString);
}

function isProcess(value: unknown): boolean {
  return (
    isObject(value) &&
    Number.isSafeInteger(value["pid"]) &&
    isString(value["startTime"]) &&
    isObject(value["pipes"])
  );
}

function isExec(value: unknown): boolean {
  if (!isProcess(value) || !isObject(value)) return false;
  const { exit } = value;
  const isExit =
    exit === undefined ||
    (isObject(exit) && Number.isSafeInteger(exit["status"]) && /^\d+$/.test(String(exit["at"])));
  return isExit && isString(value["id"]) && isStdio(value["stdio"]);
}

function isStdio(value: unknown): boolean {
  return (
    isObject(value) &&
    [value["stdin"], value["stdout"], value["stderr"]].every(isString) &&
    typeof value["terminal"] === "boolean"
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}
