import koffi from "koffi";

import { Limit } from "#pkg/limit.ts";
import { errnoName, SyscallError } from "#pkg/sys/errno.ts";
import type { Path } from "#pkg/sys/syscall.ts";

/**
 * What koffi accepts for a pointer to bytes: a string is copied and NUL-terminated, a Buffer is
 * passed in place.
 */
export type CPath = string | Buffer;

type NativeType = "int" | "uint" | "long" | "ulong" | "int64" | "uint64" | "size" | "in" | "out";

const nativeTypes: Readonly<Record<NativeType, string>> = {
  int: "int32_t",
  uint: "uint32_t",
  long: "long",
  ulong: "unsigned long",
  int64: "int64_t",
  uint64: "uint64_t",
  size: "size_t",
  in: "const void *",
  out: "void *",
};

// The symbols of the process itself: Node has the C library in it, whatever that library's file is
// called.
const libc = koffi.load(null);
const threads = new Limit(2);

/**
 * A function of the C library. Variadic ones may be bound with fixed arguments: both ABIs on Linux
 * pass them alike.
 */
export function native<F extends (...args: never[]) => number>(
  name: string,
  result: NativeType,
  args: readonly NativeType[],
): F {
  const types = args.map((arg) => nativeTypes[arg]);
  // -- koffi's functions are untyped; each call site states the C prototype once, in both forms
  return libc.func(name, nativeTypes[result], types) as unknown as F;
}

/**
 * As `native`, on a thread of libuv's pool, for what waits for a disk: resolves, or rejects with
 * what errno says. Two at once, the others wait: files are read and written on the same four
 * threads, and a disk that hangs is to leave some of them to the rest of the process.
 */
export function nativeOnThread<A extends readonly unknown[]>(
  name: string,
  args: readonly NativeType[],
): (path: Path, ...values: A) => Promise<void> {
  const types = args.map((arg) => nativeTypes[arg]);
  const call = libc.func(name, nativeTypes.int, [nativeTypes.in, ...types]);
  return async (path, ...values) => {
    using _slot = await threads.acquire();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    call.async(cPath(path, name), ...values, (error: Error | null, result: number) => {
      // errno is that of the thread, and stays so for this call back only.
      if (error) reject(error);
      else if (result < 0) reject(lastError(name, path));
      else resolve();
    });
    return await promise;
  };
}

/** Whether the C library is new enough to have a function. */
export function hasNative(name: string): boolean {
  try {
    libc.symbol(name);
    return true;
  } catch {
    return false;
  }
}

const held: Buffer[] = [];

/**
 * Makes a call with buffers whose addresses went into another one, which the collector does not see
 * as a use.
 */
export function holding<T>(buffers: readonly Buffer[], call: () => T): T {
  held.push(...buffers);
  try {
    return call();
  } finally {
    held.length -= buffers.length;
  }
}

/** Passes a result on, or throws what errno says. Must directly follow the call. */
export function check(result: number, syscall: string, path?: Path): number {
  if (result < 0) throw lastError(syscall, path);
  return result;
}

export function lastError(syscall: string, path?: Path): SyscallError {
  return new SyscallError(errnoName(koffi.errno()), syscall, path);
}

export function isLastErrno(number: number): boolean {
  return koffi.errno() === number;
}

export function address(buffer: Buffer): bigint {
  return koffi.address(buffer);
}

const strlen = native<(at: number | bigint) => number>("strlen", "size", ["uint64"]);
const memcpy = native<(to: Buffer, from: number | bigint, size: number) => number>(
  "memcpy",
  "int64",
  ["out", "uint64", "size"],
);

/** The text at an address, to its NUL; empty for no address. */
export function textAt(at: number | bigint): string {
  if (at === 0 || at === 0n) return "";
  const bytes = Buffer.alloc(strlen(at));
  memcpy(bytes, at, bytes.length);
  return bytes.toString("latin1");
}

const NUL = Buffer.alloc(1);

/**
 * The bytes of a path for the kernel; `EINVAL` with a NUL inside, which would silently name another
 * file.
 */
export function cPath(path: Path, syscall: string): CPath {
  if (typeof path === "string") {
    if (path.includes("\0")) throw new SyscallError("EINVAL", syscall, path);
    return path;
  }
  if (path.includes(0)) throw new SyscallError("EINVAL", syscall, path);
  return Buffer.concat([path, NUL]);
}

/**
 * `syscall(2)` numbers from 424 on are the same on every architecture; glibc wraps them only
 * lately, musl not at all.
 */
export const SYS = {
  pidfdSendSignal: 424,
  openTree: 428,
  moveMount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfdOpen: 434,
  closeRange: 436,
  openat2: 437,
  mountSetattr: 442,
} as const;
