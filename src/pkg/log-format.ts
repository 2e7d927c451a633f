import type { LogFields, LogLevel } from "#pkg/log.ts";
import { nanosToDate, type UnixNanos } from "#pkg/time.ts";

export interface LogEntry {
  readonly time: UnixNanos;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

/** One line, without its line feed. */
export type LogFormatter = (entry: LogEntry) => string;

/**
 * logrus' text as it goes to a file or the journal: `time="..." level=info msg="..." key=value`.
 */
export function formatText({ time, level, message, fields }: LogEntry): string {
  const head: [string, unknown][] = [
    ["time", formatTime(time)],
    ["level", level],
  ];
  if (message !== "") head.push(["msg", message]);
  return [...head, ...sorted(fields)].map(([key, value]) => `${key}=${quoted(value)}`).join(" ");
}

/** logrus' JSON: the keys sorted, the fields among them. */
export function formatJson({ time, level, message, fields }: LogEntry): string {
  const entries: [string, unknown][] = [
    ...sorted(fields).map(([key, value]): [string, unknown] => [key, jsonValue(value)]),
    ["level", level],
    ["msg", message],
    ["time", formatTime(time)],
  ];
  return JSON.stringify(Object.fromEntries(entries.sort(([a], [b]) => compare(a, b))));
}

const colours: Readonly<Record<LogLevel, number>> = {
  trace: 37,
  debug: 37,
  info: 36,
  warning: 33,
  error: 31,
  fatal: 31,
  panic: 31,
};

/** logrus' text for a terminal. */
export function formatTerminal({ time, level, message, fields }: LogEntry): string {
  const colour = (text: string): string => `\x1b[${colours[level]}m${text}\x1b[0m`;
  const rest = sorted(fields).map(([key, value]) => ` ${colour(key)}=${quoted(value)}`);
  const head = `${colour(level.toUpperCase().slice(0, 4))}[${formatTime(time)}]`;
  return `${head} ${message.padEnd(44)} ${rest.join("")}`;
}

/** RFC 3339 with all nine digits and the local offset. */
function formatTime(time: UnixNanos): string {
  const date = nanosToDate(time);
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  const nanos = String(((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n).padStart(
    9,
    "0",
  );
  if (offset === 0) return `${local}.${nanos}Z`;
  const two = (n: number): string => String(Math.trunc(n)).padStart(2, "0");
  const minutes = Math.abs(offset);
  return `${local}.${nanos}${offset < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

const reserved: ReadonlySet<string> = new Set(["time", "level", "msg"]);

function sorted(fields: LogFields): [string, unknown][] {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]): [string, unknown] => [reserved.has(key) ? `fields.${key}` : key, value])
    .sort(([a], [b]) => compare(a, b));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function quoted(value: unknown): string {
  const text = textOf(value);
  return /^[A-Za-z0-9._/@^+-]*$/.test(text) ? text : quote(text);
}

const escapes: Readonly<Record<string, string>> = {
  "\x07": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  '"': '\\"',
  "\\": "\\\\",
};

/** As Go quotes: a log line can neither be broken nor coloured by what a client sent. */
export function quote(text: string): string {
  // Everything that does not show as a character of its own, and the two characters of the quoting
  // itself.
  const escaped = text.replaceAll(/["\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, (c) => {
    const known = escapes[c];
    if (known !== undefined) return known;
    const code = c.codePointAt(0) ?? 0;
    if (code < 0x80) return `\\x${hex(code, 2)}`;
    return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  });
  return `"${escaped}"`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return errorChain(value);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return `[${value.map(textOf).join(" ")}]`;
  if (typeof value === "object" && value !== null) return JSON.stringify(value, jsonReplacer);
  return String(value);
}

function jsonValue(value: unknown): unknown {
  if (value instanceof Error) return errorChain(value);
  if (typeof value === "bigint") {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  }
  if (typeof value === "object" && value !== null) {
    const plain: unknown = JSON.parse(JSON.stringify(value, jsonReplacer));
    return plain;
  }
  return value;
}

function jsonReplacer(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Error ? errorChain(value) : value;
}

const chainMax = 16;

/**
 * An error's message and those of its causes, joined by `: `. Our own errors carry the text of
 * their cause already, so a cause is only added where its words are not there yet.
 */
export function errorChain(error: Error): string {
  let text = error.message === "" ? error.name : error.message;
  let cause: unknown = error.cause;
  for (let depth = 0; cause !== undefined && depth < chainMax; depth++) {
    const part = cause instanceof Error ? cause.message : textOf(cause);
    if (!text.includes(part)) text += `: ${part}`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  if (error instanceof AggregateError) {
    const parts = error.errors.slice(0, chainMax).map(textOf);
    text += ` [${parts.join("; ")}]`;
  }
  return text;
}
