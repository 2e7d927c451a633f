import { CodedError } from "#pkg/errors.ts";

/**
 * ttrpc's frames: payload length and stream id (32 bits each, big endian), type, flags, payload.
 *
 * A client's streams have odd ids that only grow.
 */
export interface Frame {
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  /** Set when the payload was longer than allowed: it was skipped, `payload` is empty, this is its length. */
  readonly oversizedBytes?: number;
}

export const HEADER_BYTES = 10;
export const PAYLOAD_BYTES_MAX = 4 << 20;

export const MESSAGE_REQUEST = 1;
export const MESSAGE_RESPONSE = 2;
export const MESSAGE_DATA = 3;

/** The sender of this frame sends no more on the stream. */
export const FLAG_REMOTE_CLOSED = 1;
/** The sender of this request goes on with data. */
export const FLAG_REMOTE_OPEN = 2;
/** The empty payload of this frame is no (empty) message. */
export const FLAG_NO_DATA = 4;

/** Messages a stream holds for a slow reader. */
export const STREAM_QUEUE_MESSAGES_MAX = 64;
/** How long a connection waits for a stream whose queue is full; then that stream alone ends. */
export const STREAM_FULL_WAIT_MS = 1000;

export function oversized(bytes: number): CodedError {
  return new CodedError(
    "resource-exhausted",
    `message length ${bytes} exceed maximum message size of ${PAYLOAD_BYTES_MAX}`,
  );
}

/** Throws `resource-exhausted` when the payload is longer than the protocol allows. */
export function encodeHeader(
  streamId: number,
  type: number,
  flags: number,
  payloadBytes: number,
): Buffer {
  if (payloadBytes > PAYLOAD_BYTES_MAX) throw oversized(payloadBytes);
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE(payloadBytes, 0);
  header.writeUInt32BE(streamId, 4);
  header[8] = type;
  header[9] = flags;
  return header;
}

/**
 * Cuts frames out of a byte stream, one `next` at a time.
 *
 * It holds what was pushed and not yet taken: at most one frame and one chunk when `next` is called until it gives
 * nothing. An oversized payload is skipped as it arrives, never held.
 */
export class FrameReader {
  readonly #chunks: Buffer[] = [];
  #held = 0;
  #header: { length: number; streamId: number; type: number; flags: number } | undefined;
  #skipping = 0;

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#held += chunk.length;
  }

  next(): Frame | undefined {
    if (this.#skipping > 0) this.#skip();
    if (this.#skipping > 0) return undefined;
    this.#header ??= this.#readHeader();
    const header = this.#header;
    if (!header) return undefined;
    const { length, ...rest } = header;
    if (length > PAYLOAD_BYTES_MAX) {
      this.#header = undefined;
      this.#skipping = length;
      this.#skip();
      return { ...rest, payload: new Uint8Array(), oversizedBytes: length };
    }
    if (this.#held < length) return undefined;
    this.#header = undefined;
    return { ...rest, payload: this.#take(length) };
  }

  #readHeader(): { length: number; streamId: number; type: number; flags: number } | undefined {
    if (this.#held < HEADER_BYTES) return undefined;
    const bytes = this.#take(HEADER_BYTES);
    return {
      length: bytes.readUInt32BE(0),
      streamId: bytes.readUInt32BE(4),
      type: bytes.readUInt8(8),
      flags: bytes.readUInt8(9),
    };
  }

  #skip(): void {
    const bytes = Math.min(this.#skipping, this.#held);
    this.#skipping -= bytes;
    for (let left = bytes; left > 0; ) left -= this.#takeSome(left).length;
  }

  /** The first `length` held bytes; copied only when they lie in several chunks. */
  #take(length: number): Buffer {
    const first = this.#takeSome(length);
    if (first.length === length) return first;
    const whole = Buffer.allocUnsafe(length);
    let offset = first.copy(whole);
    while (offset < length) offset += this.#takeSome(length - offset).copy(whole, offset);
    return whole;
  }

  /** At most `length` bytes, all from the first chunk. */
  #takeSome(length: number): Buffer {
    const first = this.#chunks[0];
    if (!first || length === 0) return Buffer.alloc(0);
    if (first.length <= length) {
      this.#chunks.shift();
      this.#held -= first.length;
      return first;
    }
    this.#chunks[0] = first.subarray(length);
    this.#held -= length;
    return first.subarray(0, length);
  }
}
