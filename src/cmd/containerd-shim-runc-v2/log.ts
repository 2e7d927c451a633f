import { writeSync } from "node:fs";
import { messageOf } from "#pkg/errors.ts";
import type { LogFields, Logger, LogLevel } from "#pkg/log.ts";

/**
 * logrus' text format on standard error, which may be a FIFO that nobody reads: what cannot be
 * written is lost.
 */
export function stderrLogger(options: { debug: boolean }, fields: LogFields = {}): Logger {
  const log = (level: LogLevel, message: string, more: LogFields = {}): void => {
    try {
      writeSync(2, formatLine(level, message, { ...fields, ...more }));
    } catch {
      // There is nowhere to say so.
    }
  };
  const ifDebug = options.debug ? log : (): void => {};
  return {
    trace: (message, more) => ifDebug("trace", message, more),
    debug: (message, more) => ifDebug("debug", message, more),
    info: (message, more) => log("info", message, more),
    warn: (message, more) => log("warning", message, more),
    error: (message, more) => log("error", message, more),
    with: (more) => stderrLogger(options, { ...fields, ...more }),
  };
}

function formatLine(level: LogLevel, message: string, fields: LogFields): string {
  const time = new Date().toISOString();
  const words = [`time=${quote(time)}`, `level=${level}`, `msg=${JSON.stringify(message)}`];
  for (const [key, value] of Object.entries(fields)) {
    words.push(`${key}=${quote(textOf(value))}`);
  }
  return `${words.join(" ")}\n`;
}

function textOf(value: unknown): string {
  if (!(value instanceof Error)) return typeof value === "string" ? value : JSON.stringify(value);
  const cause = value.cause === undefined ? "" : messageOf(value.cause);
  // A wrapped error has its cause's words in its own.
  return value.message.includes(cause) ? value.message : `${value.message} (${cause})`;
}

function quote(text: string): string {
  return /^[A-Za-z0-9._/@^+-]+$/.test(text) ? text : JSON.stringify(text);
}
