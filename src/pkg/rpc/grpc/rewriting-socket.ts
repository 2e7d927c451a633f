import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { HeaderRewriter } from "./header-rewriter.ts";

/** A socket whose incoming bytes pass through a rewriter; what goes out is left alone. Owns the socket. */
export class RewritingSocket extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket, rewriter: HeaderRewriter) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const part of rewriter.push(chunk)) if (!this.push(part)) socket.pause();
      } catch (error) {
        this.destroy(error instanceof Error ? error : new Error(String(error)));
      }
    });
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(
    chunk: Buffer,
    _encoding: BufferEncoding,
    callback: (error?: Error | null) => void,
  ): void {
    this.#socket.write(chunk, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#socket.end(() => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#socket.destroy();
    callback(error);
  }
}
