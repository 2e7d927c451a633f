import { writeSync } from "node:fs";
import { CodedError, isErrno } from "#pkg/errors.ts";
import type { LogFields, Logger, LogLevel } from "#pkg/log.ts";
import {
  formatJson,
  formatTerminal,
  formatText,
  type LogFormatter,
  quote,
} from "#pkg/log-format.ts";
import { nowNanos } from "#pkg/time.ts";

const order: readonly LogLevel[] = ["panic", "fatal", "error", "warning", "info", "debug", "trace"];

/** A level by any name logrus takes, in any case. Throws with logrus' words. */
export function parseLogLevel(name: string): LogLevel {
  const lower = name.toLowerCase();
  const level = order.find((known) => known === (lower === "warn" ? "warning" : lower));
  if (level === undefined) {
    throw new CodedError("invalid-argument", `not a valid logrus Level: ${quote(name)}`);
  }
  return level;
}

/** `text` or `json`; empty is `text`, coloured on a terminal. */
export function logFormatter(format: string, { terminal }: { terminal: boolean }): LogFormatter {
  if (format === "json") return formatJson;
  if (format === "text" || format === "") return terminal ? formatTerminal : formatText;
  throw new CodedError("invalid-argument", `unknown log format: ${format}`);
}

export interface LogWriterOptions {
  readonly level: LogLevel;
  readonly format: LogFormatter;
  /** Takes whole lines, in order. */
  readonly write: (line: string) => void;
}

/** Writes lines of a level or above it. The level and format may change while it runs. */
export class LogWriter {
  readonly root: Logger;
  #options: LogWriterOptions;
  #threshold: number;

  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#threshold = order.indexOf(options.level);
    this.root = this.#logger({});
  }

  configure(change: Partial<LogWriterOptions>): void {
    this.#options = { ...this.#options, ...change };
    this.#threshold = order.indexOf(this.#options.level);
  }

  get level(): LogLevel {
    return this.#options.level;
  }

  log(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (order.indexOf(level) > this.#threshold) return;
    const { format, write } = this.#options;
    write(`${format({ time: nowNanos(), level, message, fields })}\n`);
  }

  #logger(bound: LogFields): Logger {
    const at =
      (level: LogLevel) =>
      (message: string, fields?: LogFields): void => {
        if (order.indexOf(level) > this.#threshold) return;
        this.log(level, message, { ...bound, ...fields });
      };
    return {
      trace: at("trace"),
      debug: at("debug"),
      info: at("info"),
      warn: at("warning"),
      error: at("error"),
      with: (fields) => this.#logger({ ...bound, ...fields }),
    };
  }
}

const attemptsMax = 20;
const pauseMs = 5;

/**
 * Writes to a descriptor at once: a line about a crash must be out before the process is, and lines
 * keep their order.
 *
 * Where the descriptor does not block, a pipe that nobody empties costs 100 ms a line and then the
 * line, which is counted in front of the next one that gets through. A reader that went away is
 * nobody's error.
 */
export function descriptorWriter(fd: number): (line: string) => void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let dropped = 0;
  let cut = "";
  return (line) => {
    const lost = dropped > 0 ? `${cut}(${dropped} log lines lost)\n` : "";
    const whole = Buffer.from(lost + line);
    let rest = whole;
    for (let attempt = 0; rest.length > 0; ) {
      try {
        rest = rest.subarray(writeSync(fd, rest));
      } catch (error) {
        if (!isErrno(error, "EAGAIN", "EPIPE", "EIO", "ENOSPC", "EBADF")) throw error;
        attempt += 1;
        if (!isErrno(error, "EAGAIN") || attempt === attemptsMax) {
          dropped += 1;
          if (rest.length < whole.length) cut = "\n";
          return;
        }
        Atomics.wait(pause, 0, 0, pauseMs);
      }
    }
    dropped = 0;
    cut = "";
  };
}
