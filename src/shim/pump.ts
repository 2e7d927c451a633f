import type { Readable, Writable } from "node:stream";
import { isErrno } from "#pkg/errors.ts";

/**
 * Copies until the source ends. Resolves in any case; `onError` hears what went wrong, once.
 *
 * After the sink has failed what still comes is read and dropped: a container that writes to a log
 * whose disk is full goes on instead of hanging. With `afterSinkError: "stop"` the copy ends there.
 */
export async function pump(
  source: Readable,
  sink: Writable,
  options: {
    onError: (error: unknown) => void;
    afterSinkError: "drop" | "stop";
    onChunk?: (bytes: number) => void;
  },
): Promise<void> {
  let failed = false;
  try {
    // -- streams without an encoding give buffers
    for await (const chunk of source as AsyncIterable<Buffer>) {
      options.onChunk?.(chunk.length);
      if (failed) continue;
      try {
        await write(sink, chunk);
      } catch (error) {
        failed = true;
        if (!isClosing(error)) options.onError(error);
        if (options.afterSinkError === "stop") return;
      }
    }
  } catch (error) {
    if (!isClosing(error)) options.onError(error);
  }
}

function write(sink: Writable, chunk: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  sink.write(chunk, (error) => (error ? reject(error) : resolve()));
  return promise;
}

// EIO is how a PTY says that its other side is closed; the others come of closing our own side.
function isClosing(error: unknown): boolean {
  return isErrno(
    error,
    "EIO",
    "EPIPE",
    "ECANCELED",
    "ERR_STREAM_PREMATURE_CLOSE",
    "ERR_STREAM_DESTROYED",
    "ERR_STREAM_WRITE_AFTER_END",
  );
}
