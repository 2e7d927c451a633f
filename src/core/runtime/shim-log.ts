import { close, constants, fstat, open } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Bundle } from "#core/runtime/bundle.ts";
import { isErrno } from "#pkg/errors.ts";

/** Where the lines of shims go: the daemon's standard error, as they come. */
export type LogSink = (chunk: Uint8Array) => void;

/**
 * Reads the bundle's FIFO `log` for as long as its shim lives.
 *
 * A shim opens it for writing alone and would wait, or die of SIGPIPE, without a reader. Disposing
 * stops reading; the file goes with the bundle.
 */
export async function readShimLog(
  bundle: Bundle,
  mkfifo: (path: string, mode: number) => void,
  sink: LogSink,
): Promise<AsyncDisposable> {
  const path = join(bundle.path, "log");
  try {
    mkfifo(path, 0o700);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
  // Both ways, so that the shim's going and coming is no end of file, and the open does not wait.
  const fd = await promisify(open)(path, constants.O_RDWR | constants.O_NONBLOCK);
  if (!(await promisify(fstat)(fd)).isFIFO()) {
    await promisify(close)(fd);
    throw new Error(`${path} is no FIFO`);
  }
  // The descriptor is the socket's from here on.
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on("data", sink);
  socket.on("error", () => socket.destroy());
  socket.unref();
  return {
    async [Symbol.asyncDispose]() {
      socket.destroy();
    },
  };
}
