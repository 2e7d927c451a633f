/**
 * The error classes a caller may act on. The names are containerd's errdefs, plus the two ways a context ends.
 *
 * Nobody catches a failure by its text or its JavaScript class: only by one of these codes.
 */
export type ErrorCode =
  | "unknown"
  | "invalid-argument"
  | "not-found"
  | "already-exists"
  | "permission-denied"
  | "resource-exhausted"
  | "failed-precondition"
  | "conflict"
  | "not-modified"
  | "aborted"
  | "out-of-range"
  | "not-implemented"
  | "internal"
  | "unavailable"
  | "data-loss"
  | "unauthenticated"
  | "canceled"
  | "deadline-exceeded";

const statusOf = {
  canceled: 1,
  unknown: 2,
  "invalid-argument": 3,
  "deadline-exceeded": 4,
  "not-found": 5,
  "already-exists": 6,
  "permission-denied": 7,
  "resource-exhausted": 8,
  "failed-precondition": 9,
  conflict: 9,
  "not-modified": 9,
  aborted: 10,
  "out-of-range": 11,
  "not-implemented": 12,
  internal: 13,
  unavailable: 14,
  "data-loss": 15,
  unauthenticated: 16,
} as const satisfies Record<ErrorCode, number>;

/** Words that upstream's errdefs appends, and that clients match after `: `. */
const phraseOf: Partial<Record<ErrorCode, string>> = {
  "invalid-argument": "invalid argument",
  "not-found": "not found",
  "already-exists": "already exists",
  "failed-precondition": "failed precondition",
  conflict: "conflict",
  "not-modified": "not modified",
  unavailable: "unavailable",
  "not-implemented": "not implemented",
  "permission-denied": "permission denied",
  "resource-exhausted": "resource exhausted",
  "out-of-range": "out of range",
  aborted: "aborted",
  internal: "internal error",
  "data-loss": "data loss",
  unauthenticated: "unauthenticated",
};

/** An error with a class. `message` is lower case, `context: cause`, the form clients see. */
export class CodedError extends Error {
  readonly code: ErrorCode;
  override readonly name = "CodedError";

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** `notFound('content "sha256:.."')` reads `content "sha256:..": not found`, as upstream's wrapped errors do. */
function coded(code: ErrorCode): (what: string, options?: ErrorOptions) => CodedError {
  const phrase = phraseOf[code];
  return (what, options) => new CodedError(code, phrase ? `${what}: ${phrase}` : what, options);
}

export const invalidArgument: (what: string, options?: ErrorOptions) => CodedError =
  coded("invalid-argument");
export const notFound: (what: string, options?: ErrorOptions) => CodedError = coded("not-found");
export const alreadyExists: (what: string, options?: ErrorOptions) => CodedError =
  coded("already-exists");
export const failedPrecondition: (what: string, options?: ErrorOptions) => CodedError =
  coded("failed-precondition");
export const unavailable: (what: string, options?: ErrorOptions) => CodedError =
  coded("unavailable");
export const conflict: (what: string, options?: ErrorOptions) => CodedError = coded("conflict");
export const notModified: (what: string, options?: ErrorOptions) => CodedError =
  coded("not-modified");
export const notImplemented: (what: string, options?: ErrorOptions) => CodedError =
  coded("not-implemented");
export const outOfRange: (what: string, options?: ErrorOptions) => CodedError =
  coded("out-of-range");
export const resourceExhausted: (what: string, options?: ErrorOptions) => CodedError =
  coded("resource-exhausted");

/** Adds context on the way up; the class of the innermost coded cause is kept. */
export function wrap(context: string, cause: unknown): CodedError {
  return new CodedError(codeOf(cause), `${context}: ${messageOf(cause)}`, { cause });
}

/**
 * The class of an error: that of the nearest coded error on its chain of causes.
 *
 * Node wraps an expired `AbortSignal.timeout()` in an AbortError, so an abort only counts as `canceled` when nothing
 * deeper on the chain says it was a deadline. A raw system error is `unknown` until the layer that understands it
 * says otherwise.
 */
export function codeOf(error: unknown): ErrorCode {
  let code: ErrorCode = "unknown";
  let e: unknown = error;
  while (typeof e === "object" && e !== null) {
    if ("code" in e && isErrorCode(e.code)) return e.code;
    if ("name" in e && e.name === "TimeoutError") return "deadline-exceeded";
    if ("name" in e && e.name === "AbortError") code = "canceled";
    e = "cause" in e ? e.cause : undefined;
  }
  return code;
}

export function hasCode(error: unknown, code: ErrorCode): boolean {
  return codeOf(error) === code;
}

export function isNotFound(error: unknown): boolean {
  return codeOf(error) === "not-found";
}

export function isAlreadyExists(error: unknown): boolean {
  return codeOf(error) === "already-exists";
}

/** True for Node's system errors with one of the given names (`ENOENT`, ...). */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return error instanceof Error && "code" in error && names.includes(String(error.code));
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** gRPC and ttrpc share google.rpc.Code. */
export function toStatus(error: unknown): { code: number; message: string } {
  const code = codeOf(error);
  if (code === "canceled" && !(error instanceof CodedError)) {
    return { code: 1, message: "context canceled" };
  }
  if (code === "deadline-exceeded" && !(error instanceof CodedError)) {
    return { code: 4, message: "context deadline exceeded" };
  }
  return { code: statusOf[code], message: messageOf(error) };
}

/**
 * What a client makes of a status that a server sent. The message is kept as it came.
 *
 * Three classes share the wire's failed precondition; which one it was is told by the message's end, as for Go's
 * clients.
 */
export function fromStatus(code: number, message: string): CodedError {
  if (code === statusOf["failed-precondition"]) {
    for (const narrow of ["conflict", "not-modified"] as const) {
      const phrase = phraseOf[narrow];
      if (message === phrase || message.endsWith(`: ${phrase}`)) {
        return new CodedError(narrow, message);
      }
    }
  }
  const found = Object.entries(statusOf).find(([, n]) => n === code)?.[0];
  return new CodedError(isErrorCode(found) ? found : "unknown", message);
}

function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === "string" && Object.hasOwn(statusOf, value);
}
