import { open } from "node:fs/promises";
import { messageOf } from "#pkg/errors.ts";

// A runtime that writes more than this before failing is cut: the last entry is what counts.
const tailMax = 256 * 1024;

/**
 * The last error a runtime has written to its log since `fromByte`, trimmed; undefined when there
 * is none.
 *
 * Lines that are no JSON are skipped: a runtime killed in the middle of a line must not hide what
 * it said before.
 */
export async function lastRuntimeError(path: string, fromByte = 0): Promise<string | undefined> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const start = Math.max(fromByte <= size ? fromByte : 0, size - tailMax);
  const buffer = Buffer.alloc(Math.max(0, size - start));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
  return lastErrorIn(buffer.toString("utf8", 0, bytesRead));
}

export function lastErrorIn(text: string): string | undefined {
  for (const line of text.split("\n").toReversed()) {
    const entry = tryParse(line);
    if (entry === undefined || entry["level"] !== "error") continue;
    const message = entry["msg"];
    if (typeof message === "string") return message.trim();
  }
  return undefined;
}

function tryParse(line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null
      ? (value as Readonly<Record<string, unknown>>) // -- just seen to be an object
      : undefined;
  } catch {
    return undefined; // half a line, see above
  }
}

/**
 * Words a client sees when the runtime failed: what the runtime said itself, else how it ended.
 *
 * `failure` is how the call ended (`runc did not terminate successfully: exit status 1`).
 */
export async function describeRuntimeError(
  context: string,
  log: { path: string; fromByte: number },
  failure: string,
): Promise<string> {
  let said: string | undefined;
  try {
    said = await lastRuntimeError(log.path, log.fromByte);
  } catch (error) {
    const why = goOpenError(log.path, error);
    return `${context}: unable to retrieve OCI runtime error (${why}): ${failure}`;
  }
  return said === undefined || said === "" ? `${context}: ${failure}` : `${context}: ${said}`;
}

function goOpenError(path: string, error: unknown): string {
  const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
  return missing ? `open ${path}: no such file or directory` : messageOf(error);
}
