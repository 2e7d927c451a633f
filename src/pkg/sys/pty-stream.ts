import { writeSync } from "node:fs";
import { Duplex } from "node:stream";
import { ReadStream } from "node:tty";

import { isErrno } from "#pkg/errors.ts";
import { O } from "#pkg/sys/constants.ts";
import type { Fd, Syscalls, WindowSize } from "#pkg/sys/syscall.ts";

const retryMsMax = 50;
const bufferBytes = 65536;

/**
 * The master side of a PTY. Owns the descriptor.
 *
 * Reads what the terminal's programs print, and ends when the last of them has closed it: the
 * kernel says `EIO` then, which is no error here. Writes are their input; what is written after the
 * hang-up is dropped, ending the writable side closes nothing. Destroying it closes the descriptor,
 * which sends SIGHUP to the session unless another process holds a duplicate. The owner destroys
 * it, also after its end.
 *
 * Only reading goes through libuv: it would write to a master blocking, and a program that does not
 * read its input would stop the whole process. So the descriptor is non-blocking and a full
 * terminal is tried again after a while.
 */
export class PtyStream extends Duplex {
  readonly #sys: Pick<Syscalls, "getWindowSize" | "setWindowSize">;
  readonly #fd: Fd;
  readonly #reader: ReadStream;
  #retryTimer: NodeJS.Timeout | undefined;
  #retry: (() => void) | undefined;

  constructor(
    sys: Pick<Syscalls, "getStatusFlags" | "setStatusFlags" | "getWindowSize" | "setWindowSize">,
    master: Fd,
  ) {
    super({ highWaterMark: bufferBytes });
    this.#sys = sys;
    this.#fd = master;
    sys.setStatusFlags(master, sys.getStatusFlags(master) | O.NONBLOCK);
    // An error that comes between two operations would end the process; the next operation meets
    // it.
    this.on("error", () => {});
    this.#reader = new ReadStream(master);
    this.#reader.pause();
    this.#reader.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) this.#reader.pause();
      // Output often means that input was read.
      this.#retry?.();
    });
    this.#reader.on("end", () => this.push(null));
    this.#reader.on("error", (error) => {
      if (isErrno(error, "EIO")) this.push(null);
      else this.destroy(error);
    });
  }

  /** False as soon as the descriptor is closed, which a hang-up does before the end is read. */
  get isOpen(): boolean {
    return !this.destroyed && !this.#reader.destroyed;
  }

  resize(size: WindowSize): void {
    if (this.isOpen) this.#sys.setWindowSize(this.#fd, size);
  }

  size(): WindowSize {
    return this.#sys.getWindowSize(this.#fd);
  }

  override _read(): void {
    this.#reader.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#writeSome(chunk, 1, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stopRetrying();
    if (this.#reader.closed) {
      done(error);
      return;
    }
    this.#reader.once("close", () => done(error));
    this.#reader.destroy();
  }

  #writeSome(chunk: Buffer, delayMs: number, done: (error?: Error | null) => void): void {
    if (this.#reader.destroyed) {
      done();
      return;
    }
    let written = 0;
    try {
      written = writeSync(this.#fd, chunk);
    } catch (error) {
      if (isErrno(error, "EIO")) {
        done();
        return;
      }
      if (!isErrno(error, "EAGAIN", "EINTR")) {
        done(error instanceof Error ? error : new Error(String(error)));
        return;
      }
    }
    if (written === chunk.length) {
      done();
      return;
    }
    const nextDelayMs = written > 0 ? 1 : Math.min(2 * delayMs, retryMsMax);
    this.#retry = () => {
      this.#stopRetrying();
      this.#writeSome(chunk.subarray(written), nextDelayMs, done);
    };
    this.#retryTimer = setTimeout(this.#retry, delayMs);
  }

  #stopRetrying(): void {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    this.#retry = undefined;
  }
}
