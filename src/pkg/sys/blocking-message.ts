import { type ErrnoName, isErrnoName, isSyscallError, SyscallError } from "#pkg/sys/errno.ts";
import type { Path, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * The calls that may hang on a dead file system. A number as first argument of any is a descriptor.
 */
export type BlockingName =
  | "mount"
  | "umount2"
  | "fsconfigCreate"
  | "openat"
  | "fstatat"
  | "statfs"
  | "fstatfs"
  | "syncfs"
  | "fsync"
  | "fdatasync"
  | "flock"
  | "unlinkat";

/** What goes to a worker: a call by name, since functions do not travel between threads. */
export interface BlockingRequest {
  readonly name: BlockingName;
  readonly args: readonly unknown[];
}

/** What comes back. An error loses its class on the way, so its parts are sent. */
export type BlockingReply =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly errno: ErrnoName | undefined;
      readonly syscall: string;
      readonly path: Path | undefined;
      readonly message: string;
    };

const names: ReadonlySet<unknown> = new Set<BlockingName>([
  "mount",
  "umount2",
  "fsconfigCreate",
  "openat",
  "fstatat",
  "statfs",
  "fstatfs",
  "syncfs",
  "fsync",
  "fdatasync",
  "flock",
  "unlinkat",
]);

function isRequest(value: unknown): value is BlockingRequest {
  if (typeof value !== "object" || value === null) return false;
  return "name" in value && names.has(value.name) && "args" in value && Array.isArray(value.args);
}

/** A Buffer arrives as a plain Uint8Array. */
export function revive(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, revive(field)]));
}

/** In the worker: makes the call. */
export function runRequest(sys: Syscalls, request: unknown): BlockingReply {
  try {
    if (!isRequest(request)) throw new Error("not a request");
    // -- the pool's `run` gave the arguments their types; `names` bounds what can be called
    const call = sys[request.name] as (...args: unknown[]) => unknown;
    return { ok: true, value: call(...request.args.map(revive)) };
  } catch (error) {
    const known = isSyscallError(error) ? error : undefined;
    return {
      ok: false,
      errno: known?.errno,
      syscall: known?.syscall ?? "",
      path: known?.path,
      message: error instanceof Error ? error.message : String(error),
    };
  }
}

/** In the main thread: the result, or the error as the call threw it. */
export function readReply(reply: BlockingReply): unknown {
  if (reply.ok) return revive(reply.value);
  if (reply.errno === undefined || !isErrnoName(reply.errno)) throw new Error(reply.message);
  const path = revive(reply.path);
  const shown = typeof path === "string" || Buffer.isBuffer(path) ? path : undefined;
  throw new SyscallError(reply.errno, reply.syscall, shown);
}
