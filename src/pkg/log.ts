export type LogLevel = "trace" | "debug" | "info" | "warning" | "error" | "fatal" | "panic";

export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log lines. `error` among the fields is printed with its whole chain of causes. */
export interface Logger {
  trace(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds the fields to each of its lines. */
  with(fields: LogFields): Logger;
}

/** Drops everything: for tests and for library users who want no log. */
export const silentLogger: Logger = {
  trace() {},
  debug() {},
  info() {},
  warn() {},
  error() {},
  with() {
    return silentLogger;
  },
};
