import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import type { UnixNanos } from "#pkg/time.ts";
import { writeDurably } from "./durable-file.ts";
import type { Exit } from "./process-state.ts";

const fileName = "exit.json";

/** Upstream's `exit.json`: what is left to know of a container when its supervisor is gone. */
export async function writeExitRecord(bundle: string, exit: Exit): Promise<void> {
  await writeDurably(join(bundle, fileName), formatExitRecord(exit));
}

/**
 * Undefined when there is none or when it is not believable (no pid, no time, a negative status).
 */
export async function readExitRecord(bundle: string): Promise<Exit | undefined> {
  try {
    return parseExitRecord(await readFile(join(bundle, fileName), "utf8"));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

export function formatExitRecord(exit: Exit): string {
  return JSON.stringify({
    Timestamp: formatTime(exit.at),
    Pid: exit.pid,
    Status: exit.status,
  });
}

export function parseExitRecord(text: string): Exit | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // as good as absent, as upstream has it
  }
  if (typeof value !== "object" || value === null) return undefined;
  // -- just seen to be an object
  const { Timestamp, Pid, Status } = value as Readonly<Record<string, unknown>>;
  const at = typeof Timestamp === "string" ? parseTime(Timestamp) : undefined;
  if (at === undefined || !isCount(Pid) || Pid === 0 || !isCount(Status)) return undefined;
  return { pid: Pid, status: Status, at };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** RFC 3339 with nanoseconds, trailing zeros dropped as Go does. */
function formatTime(at: UnixNanos): string {
  const seconds = new Date(Number(at / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  const fraction = String(at % 1_000_000_000n)
    .padStart(9, "0")
    .replace(/0+$/, "");
  return fraction === "" ? `${seconds}Z` : `${seconds}.${fraction}Z`;
}

function parseTime(text: string): UnixNanos | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!match) return undefined;
  const ms = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(ms) || ms <= 0) return undefined;
  return BigInt(ms) * 1_000_000n + BigInt((match[2] ?? "").padEnd(9, "0"));
}
