/** HTTP/2's frames, RFC 9113 section 4, as far as the gate in front of node:http2 must know them. */
export const PREFACE: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export const FRAME_HEADER_BYTES = 9;
/** The longest payload that we let peers send; it is the protocol's default. */
export const FRAME_PAYLOAD_BYTES_MAX = 16_384;

export const TYPE_HEADERS = 1;
export const TYPE_SETTINGS = 4;
export const TYPE_PING = 6;
export const TYPE_GOAWAY = 7;
export const TYPE_CONTINUATION = 9;

export const FLAG_ACK = 0x01;
export const FLAG_END_HEADERS = 0x04;
export const FLAG_PADDED = 0x08;
export const FLAG_PRIORITY = 0x20;

const PRIORITY_BYTES = 5;

export interface FrameHeader {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
}

/** Undefined while the header is not all there. */
export function decodeFrameHeader(bytes: Buffer): FrameHeader | undefined {
  if (bytes.length < FRAME_HEADER_BYTES) return undefined;
  return {
    length: bytes.readUIntBE(0, 3),
    type: bytes.readUInt8(3),
    flags: bytes.readUInt8(4),
    streamId: bytes.readUInt32BE(5) & 0x7fff_ffff,
  };
}

export function encodeFrame(
  { type, flags, streamId }: Omit<FrameHeader, "length">,
  payload: Uint8Array,
): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  frame.writeUIntBE(payload.length, 0, 3);
  frame.writeUInt8(type, 3);
  frame.writeUInt8(flags, 4);
  frame.writeUInt32BE(streamId, 5);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** The part of a HEADERS payload that is header block. Throws when padding or priority do not fit. */
export function headerFragment(
  flags: number,
  payload: Buffer,
): { priority: Buffer; block: Buffer } {
  let rest = payload;
  if (flags & FLAG_PADDED) {
    const padding = rest[0];
    if (padding === undefined || padding >= rest.length) throw new Error("padding too long");
    rest = rest.subarray(1, rest.length - padding);
  }
  const priorityBytes = flags & FLAG_PRIORITY ? PRIORITY_BYTES : 0;
  if (rest.length < priorityBytes) throw new Error("HEADERS frame too short");
  return { priority: rest.subarray(0, priorityBytes), block: rest.subarray(priorityBytes) };
}

/** A header block as HEADERS and as many CONTINUATION frames as it takes. */
export function encodeHeaders(
  { flags, streamId }: { flags: number; streamId: number },
  { priority, block }: { priority: Buffer; block: Buffer },
): Buffer {
  const kept = flags & ~(FLAG_PADDED | FLAG_END_HEADERS);
  const whole = Buffer.concat([priority, block]);
  const frames: Buffer[] = [];
  let at = 0;
  do {
    const end = Math.min(whole.length, at + FRAME_PAYLOAD_BYTES_MAX);
    const last = end === whole.length ? FLAG_END_HEADERS : 0;
    const payload = whole.subarray(at, end);
    frames.push(
      at === 0
        ? encodeFrame({ type: TYPE_HEADERS, flags: kept | last, streamId }, payload)
        : encodeFrame({ type: TYPE_CONTINUATION, flags: last, streamId }, payload),
    );
    at = end;
  } while (at < whole.length);
  return Buffer.concat(frames);
}
