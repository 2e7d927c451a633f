import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import type { Context } from "#pkg/context.ts";
import { CodedError, invalidArgument } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/** What these functions need of the kernel. */
export type FifoCalls = Pick<Syscalls, "openat" | "fstatat" | "close">;

/**
 * - `read`: at once, whether or not somebody writes. Ends when the last writer has gone.
 * - `write`: `ENXIO` while nobody reads.
 * - `both`: at once. As a reader it never ends, as a writer it never fails: it is its own other
 *   side.
 */
export type FifoAccess = "read" | "write" | "both";

const accessFlags: Readonly<Record<FifoAccess, number>> = {
  read: O.RDONLY,
  write: O.WRONLY,
  both: O.RDWR,
};

/**
 * Opens a FIFO without ever blocking: a blocking open would hold a thread of libuv's pool, and four
 * of them stop all of `fs.promises`. The descriptor is non-blocking, so it is for us, not for a
 * container (`setStatusFlags` mends that).
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
 * A stream over a pipe, a FIFO or a socket, polled by the event loop, never by the thread pool. It
 * owns the descriptor and makes its open file description non-blocking.
 */
export function fdStream(fd: Fd, direction: "read" | "write"): Socket {
  const reads = direction === "read";
  const stream = new Socket({ fd, readable: reads, writable: !reads });
  // An error that comes between two operations would end the process; the next operation meets it.
  stream.on("error", () => {});
  return stream;
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
 * Copies until the source ends; resolves to the bytes when the sink has taken them. Chunk by chunk:
 * what is held in memory are the streams' own buffers.
 *
 * `end` then ends the sink, `keep` leaves it open. Rejects when either side fails or closes too
 * early, and when the context ends. Neither stream is destroyed by that: the other direction of a
 * terminal may still have something to say.
 */
export function copyStream(
  ctx: Context,
  source: Readable,
  sink: Writable,
  atEnd: "end" | "keep",
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const over = new AbortController();
  let bytes = 0;
  const listen = (
    stream: Readable | Writable,
    event: string,
    on: (...args: unknown[]) => void,
  ): void => {
    stream.on(event, on);
    over.signal.addEventListener("abort", () => stream.off(event, on), { once: true });
  };
  const fail = (error: unknown): void => {
    source.pause();
    over.abort();
    reject(error as Error); // -- passed on as the stream gave it
  };
  const flushed = (error?: Error | null): void => {
    if (error) {
      fail(error);
      return;
    }
    over.abort();
    resolve(bytes);
  };
  const onAbort = (): void => {
    try {
      ctx.throwIfEnded();
    } catch (error) {
      fail(error);
    }
  };
  ctx.signal.addEventListener("abort", onAbort, { once: true, signal: over.signal });
  listen(source, "error", fail);
  listen(sink, "error", fail);
  listen(source, "close", () => {
    if (!source.readableEnded) fail(closedEarly("source"));
  });
  listen(sink, "close", () => {
    if (!sink.writableFinished) fail(closedEarly("sink"));
  });
  listen(sink, "drain", () => source.resume());
  listen(source, "data", (chunk) => {
    bytes += (chunk as Buffer).length; // -- a source without encoding gives Buffers
    if (!sink.write(chunk)) source.pause();
  });
  listen(source, "end", () => {
    if (atEnd === "end") sink.end(flushed);
    else sink.write("", flushed);
  });
  if (ctx.signal.aborted) onAbort();
  else if (source.readableEnded || source.destroyed) fail(closedEarly("source"));
  else if (!sink.writable) fail(closedEarly("sink"));
  else source.resume();
  return promise;
}

function closedEarly(side: "source" | "sink"): CodedError {
  return new CodedError("aborted", `copy: ${side} is closed`);
}
