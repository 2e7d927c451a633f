import type { Socket } from "node:net";
import { encodeHeader, type Frame, FrameReader } from "./frame.ts";

/** Unsent bytes up to which a connection still takes frames in: a peer that reads nothing gets nothing done. */
const UNSENT_BYTES_MAX = 16 << 20;
/** Below this a header is copied in front of its payload; above, both are written as they are. */
const JOINED_BYTES_MAX = 16 << 10;

/** Frames over one socket, both ways, for server and client alike. */
export class Connection {
  /** Handles a frame; a promise holds the frames behind it back, and so the peer. */
  onFrame: (frame: Frame) => Promise<void> | undefined = () => undefined;
  /** Called once when the socket is gone; the error says why, if there was one. */
  onClose: (error: Error | undefined) => void = () => {};

  readonly #socket: Socket;
  readonly #reader = new FrameReader();
  #busy = false;
  #error: Error | undefined;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#reader.push(chunk);
      if (!this.#busy) this.#handleFrames();
    });
    socket.on("drain", () => this.#release());
    socket.on("error", (error) => {
      this.#error = error;
    });
    socket.on("close", () => {
      this.#release();
      this.onClose(this.#error);
    });
  }

  get isOpen(): boolean {
    return this.#socket.writable && !this.#socket.destroyed;
  }

  /** Queues a frame. Throws `resource-exhausted` when the payload is too long; the connection goes on. */
  send(streamId: number, type: number, flags: number, payload: Uint8Array): void {
    const header = encodeHeader(streamId, type, flags, payload.length);
    if (!this.isOpen) return;
    if (payload.length === 0) {
      this.#socket.write(header);
    } else if (payload.length <= JOINED_BYTES_MAX) {
      this.#socket.write(Buffer.concat([header, payload]));
    } else {
      this.#socket.cork();
      this.#socket.write(header);
      this.#socket.write(payload);
      this.#socket.uncork();
    }
  }

  /** Resolves when the peer has taken enough that more can be sent, or the socket is gone. */
  drained(): Promise<void> | undefined {
    if (!this.#socket.writableNeedDrain || this.#socket.destroyed) return undefined;
    this.#drained ??= Promise.withResolvers();
    return this.#drained.promise;
  }

  /** Sends what is queued, then ends. */
  end(): void {
    this.#socket.end(() => this.#socket.destroy());
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #release(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  #handleFrames(): void {
    for (let frame = this.#reader.next(); frame; frame = this.#reader.next()) {
      if (this.#socket.destroyed) return;
      const wait = this.onFrame(frame) ?? this.#unsent();
      if (wait) {
        this.#busy = true;
        this.#socket.pause();
        void wait.then(() => {
          this.#busy = false;
          this.#socket.resume();
          this.#handleFrames();
        });
        return;
      }
    }
  }

  #unsent(): Promise<void> | undefined {
    return this.#socket.writableLength > UNSENT_BYTES_MAX ? this.drained() : undefined;
  }
}
