import type { Http2Stream } from "node:http2";
import type { InputType } from "node:zlib";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { giveBytes } from "#pkg/owned-bytes.ts";

export const PREFIX_BYTES = 5;
/** Upstream's default limit of a message, either way. */
export const MESSAGE_BYTES_MAX = 16 << 20;

export interface MessageReaderOptions {
  readonly bytesMax: number;
  /** `grpc-encoding` of the peer, when it is one that we know. */
  readonly encoding: "gzip" | undefined;
}

/**
 * The length-prefixed messages of one direction of an HTTP/2 stream, pulled.
 *
 * It reads only when it is asked, so a reader that stops stops the peer. `next` gives undefined at the end of the
 * stream, and when the stream is torn down: who must tell the two apart looks at the stream.
 */
export class MessageReader {
  readonly #stream: Http2Stream;
  readonly #options: MessageReaderOptions;
  readonly #chunks: Buffer[] = [];
  #held = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(stream: Http2Stream, options: MessageReaderOptions) {
    this.#stream = stream;
    this.#options = options;
    const wake = (): void => this.#wake?.();
    const end = (): void => {
      this.#ended = true;
      wake();
    };
    stream.on("readable", wake);
    stream.on("end", end);
    stream.on("close", end);
  }

  /**
   * Throws `resource-exhausted` for a message above the limit, before or after it is inflated, `internal` for one that
   * is cut off or whose prefix makes no sense.
   */
  async next(): Promise<Uint8Array | undefined> {
    if (!(await this.#fill(PREFIX_BYTES))) {
      if (this.#held > 0 && !this.#stream.destroyed) throw cutOff();
      return undefined;
    }
    const prefix = this.#take(PREFIX_BYTES);
    const flag = prefix.readUInt8(0);
    const length = prefix.readUInt32BE(1);
    const { bytesMax, encoding } = this.#options;
    if (length > bytesMax) {
      throw new CodedError(
        "resource-exhausted",
        `grpc: received message larger than max (${length} vs. ${bytesMax})`,
      );
    }
    if (flag > 1) {
      throw new CodedError("internal", `grpc: received unexpected payload format ${flag}`);
    }
    if (flag === 1 && encoding === undefined) {
      throw new CodedError("internal", "grpc: compressed flag set with identity or empty encoding");
    }
    if (!(await this.#fill(length))) throw cutOff();
    const message = this.#take(length);
    return flag === 1 ? inflate(message, bytesMax) : message;
  }

  /** Throws away what still comes. */
  discard(): void {
    discardRest(this.#stream);
    this.#chunks.length = 0;
    this.#held = 0;
  }

  /** Reads until so many bytes are held; false when the stream ends before. */
  async #fill(bytes: number): Promise<boolean> {
    while (this.#held < bytes) {
      const chunk = this.#stream.read() as Buffer | null; // -- no encoding is set on the stream
      if (chunk !== null) {
        this.#chunks.push(chunk);
        this.#held += chunk.length;
      } else if (this.#ended || this.#stream.destroyed) {
        return false;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
    return true;
  }

  #take(bytes: number): Buffer {
    this.#held -= bytes;
    const first = this.#chunks[0];
    if (!first || bytes === 0) return Buffer.alloc(0);
    if (first.length >= bytes) {
      if (first.length === bytes) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(bytes);
      return first.subarray(0, bytes);
    }
    const whole = giveBytes(Buffer.allocUnsafe(bytes));
    let offset = 0;
    while (offset < bytes) {
      const chunk = this.#chunks[0];
      if (!chunk) throw new CodedError("internal", "fewer bytes held than counted");
      const copied = chunk.copy(whole, offset, 0, bytes - offset);
      offset += copied;
      if (copied === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(copied);
    }
    return whole;
  }
}

/**
 * Lets what still comes on a stream go by, whoever read it before: Node closes a stream only when it is read empty.
 *
 * May be called again. To take listeners off twice would stop the flow.
 */
export function discardRest(stream: Http2Stream): void {
  if (stream.destroyed) return;
  if (stream.listenerCount("readable") > 0) stream.removeAllListeners("readable");
  stream.resume();
}

async function inflate(message: InputType, bytesMax: number): Promise<Uint8Array> {
  const { gunzip } = await import("node:zlib");
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  gunzip(message, { maxOutputLength: Math.max(1, bytesMax) }, (error, inflated) => {
    if (!error) resolve(inflated);
    else if ("code" in error && error.code === "ERR_BUFFER_TOO_LARGE") {
      const text = `grpc: received message after decompression larger than max ${bytesMax}`;
      reject(new CodedError("resource-exhausted", text, { cause: error }));
    } else {
      const text = `grpc: failed to decompress the message: ${messageOf(error)}`;
      reject(new CodedError("internal", text, { cause: error }));
    }
  });
  return promise;
}

function cutOff(): CodedError {
  return new CodedError("internal", "unexpected EOF");
}
