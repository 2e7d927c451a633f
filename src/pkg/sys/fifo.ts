import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

import type { Context } from "#pkg/context.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/** What these functions need of the kernel. */
export type FifoCalls = Pick<Syscalls, "openat" | "fstatat" | "close">;

/**
 * - `read`: at once, whether or not somebody writes. Ends when the last writer has gone.
 * - `write`: `ENXIO` while nobody reads.
 * - `both`: at once. As a reader it never ends, as a writer it never fails: it is its own other side.
 */
export type FifoAccess = "read" | "write" | "both";

const accessFlags: Readonly<Record<FifoAccess, number>> = {
  read: O.RDONLY,
  write: O.WRONLY,
  both: O.RDWR,
};

/**
 * Opens a FIFO without ever blocking: a blocking open would hold a thread of libuv's pool, and four of them stop all of
 * `fs.promises`. The descriptor is non-blocking, so it is for us, not for a container (`setStatusFlags` mends that).
 *
 * Throws `invalid-argument` for anything that is no FIFO, else a `SyscallError`.
 */
export function openFifo(sys: FifoCalls, path: Path, access: FifoAccess): Fd {
  const fd = sys.openat(AT.FDCWD, path, accessFlags[access] | O.NONBLOCK | O.NOCTTY);
  try {
    const { mode } = sys.fstatat(fd, "", AT.EMPTY_PATH);
    if ((mode & S_IF.MT) !== S_IF.IFO) throw invalidArgument(`"${path.toString()}" is no fifo`);
    return fd;
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/**
 * A stream over a pipe, a FIFO or a socket, polled by the event loop, never by the thread pool. It owns the descriptor
 * and makes its open file description non-blocking.
 */
export function fdStream(fd: Fd, direction: "read" | "write"): Socket {
  const reads = direction === "read";
  return new Socket({ fd, readable: reads, writable: !reads });
}

/** Reads what is written to a FIFO; with `both` it outlives its writers. */
export function openFifoReader(
  sys: FifoCalls,
  path: Path,
  access: "read" | "both" = "read",
): Socket {
  return fdStream(openFifo(sys, path, access), "read");
}

const readerPollMsMax = 50;

/** Writes to a FIFO, as soon as somebody reads it; the wait ends with the context. */
export async function openFifoWriter(ctx: Context, sys: FifoCalls, path: Path): Promise<Socket> {
  for (let delayMs = 1; ; delayMs = Math.min(2 * delayMs, readerPollMsMax)) {
    ctx.throwIfEnded();
    try {
      return fdStream(openFifo(sys, path, "write"), "write");
    } catch (error) {
      if (!isSyscallError(error, "ENXIO")) throw error;
    }
    await pause(ctx, delayMs);
  }
}

/** Sleeps; throws `canceled` or `deadline-exceeded` when the context ends first. */
export async function pause(ctx: Context, delayMs: number): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal: ctx.signal });
  } catch (error) {
    ctx.throwIfEnded();
    throw error;
  }
}

/**
 * Copies until the source ends; returns the bytes. At most both streams' high water marks are held in memory.
 *
 * `end` also ends the sink then, `keep` leaves it open for others. When either side fails, or the context ends, both
 * are destroyed and this rejects.
 */
export async function copyStream(
  ctx: Context,
  source: Readable,
  sink: Writable,
  atEnd: "end" | "keep",
): Promise<number> {
  let bytes = 0;
  const counted = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      yield chunk;
    }
  };
  try {
    await pipeline(source, counted, sink, { signal: ctx.signal, end: atEnd === "end" });
  } catch (error) {
    ctx.throwIfEnded();
    throw error;
  }
  return bytes;
}
