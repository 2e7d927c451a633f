import { type HeaderField, HEADER_LIST_BYTES_MAX, HpackDecoder, encodeLiterals } from "./hpack.ts";
import {
  decodeFrameHeader,
  encodeHeaders,
  FLAG_END_HEADERS,
  FRAME_HEADER_BYTES,
  FRAME_PAYLOAD_BYTES_MAX,
  type FrameHeader,
  headerFragment,
  TYPE_CONTINUATION,
  TYPE_HEADERS,
} from "./http2-frame.ts";

/**
 * Passes a client's bytes on, after the preface, with each header block decoded, changed and encoded anew.
 *
 * The decoder follows the client's table; what goes on enters no table, so the receiver's stays empty and cannot
 * disagree. Throws on a header block that makes no sense.
 */
export class HeaderRewriter {
  readonly #change: (field: HeaderField) => HeaderField;
  readonly #decoder = new HpackDecoder();
  #held: Buffer = Buffer.alloc(0);
  #passing = 0;
  #open: { flags: number; streamId: number; priority: Buffer; blocks: Buffer[] } | undefined;

  constructor(change: (field: HeaderField) => HeaderField) {
    this.#change = change;
  }

  /** Takes bytes in and gives out what can go on, which may be nothing yet. */
  push(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (bytes.length > 0) {
      const taken = this.#take(bytes, out);
      if (taken === 0) break;
      bytes = bytes.subarray(taken);
    }
    this.#held = bytes;
    return out;
  }

  /** How many bytes it took; none when more must come first. */
  #take(bytes: Buffer, out: Buffer[]): number {
    if (this.#passing > 0) {
      const part = bytes.subarray(0, this.#passing);
      this.#passing -= part.length;
      out.push(part);
      return part.length;
    }
    const header = decodeFrameHeader(bytes);
    if (!header) return 0;
    if (header.type !== TYPE_HEADERS && header.type !== TYPE_CONTINUATION) {
      this.#passing = FRAME_HEADER_BYTES + header.length;
      return this.#take(bytes, out);
    }
    if (header.length > FRAME_PAYLOAD_BYTES_MAX) throw new Error("frame too long");
    const end = FRAME_HEADER_BYTES + header.length;
    if (bytes.length < end) return 0;
    this.#onHeaders(header, bytes.subarray(FRAME_HEADER_BYTES, end), out);
    return end;
  }

  #onHeaders({ type, flags, streamId }: FrameHeader, payload: Buffer, out: Buffer[]): void {
    if (type === TYPE_HEADERS) {
      const { priority, block } = headerFragment(flags, payload);
      this.#open = { flags, streamId, priority, blocks: [block] };
    } else {
      this.#open?.blocks.push(payload);
    }
    const open = this.#open;
    if (!open || open.streamId !== streamId) throw new Error("CONTINUATION out of place");
    const block = Buffer.concat(open.blocks);
    if (block.length > HEADER_LIST_BYTES_MAX) throw new Error("header block too long");
    open.blocks = [block];
    if ((flags & FLAG_END_HEADERS) === 0) return;
    this.#open = undefined;
    const fields = this.#decoder.decode(block).map(this.#change);
    out.push(encodeHeaders(open, { priority: open.priority, block: encodeLiterals(fields) }));
  }
}
