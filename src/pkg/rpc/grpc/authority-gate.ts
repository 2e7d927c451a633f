import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HeaderRewriter } from "./header-rewriter.ts";
import { type HeaderField, HEADER_LIST_BYTES_MAX, HpackDecoder } from "./hpack.ts";
import {
  decodeFrameHeader,
  encodeFrame,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FRAME_HEADER_BYTES,
  FRAME_PAYLOAD_BYTES_MAX,
  type FrameHeader,
  headerFragment,
  PREFACE,
  TYPE_CONTINUATION,
  TYPE_GOAWAY,
  TYPE_HEADERS,
  TYPE_PING,
  TYPE_SETTINGS,
} from "./http2-frame.ts";
import { RewritingSocket } from "./rewriting-socket.ts";

/** As long as grpc-go's server waits for a client's first words. */
const GREETING_TIMEOUT_MS = 120_000;
/** A client that calls has greeted; its acknowledgement must be on the way. */
const ACK_TIMEOUT_MS = 10_000;
const HELD_BYTES_MAX = HEADER_LIST_BYTES_MAX;

/**
 * Looks at the first request of a connection before node:http2 does, for the sake of old clients.
 *
 * grpc-go clients that dial a plain path send it as `:authority`. A slash is not allowed there, nghttp2 resets the
 * stream, and Node has no switch for it. So the first header block is read here. Where its authority is in order, as
 * with almost every client, the socket goes on untouched and costs nothing from then on. Otherwise every header block
 * of the connection is rewritten: the authority is sent again whenever it has fallen out of the client's table.
 *
 * A client sends no request before it has seen the server's SETTINGS, so an empty one is sent from here, which leaves
 * all at the defaults; its acknowledgement, and pings until then, are answered here and not passed on.
 */
export function admit(socket: Socket, onAdmitted: (connection: Duplex) => void): void {
  const gate = new Gate(socket, onAdmitted);
  gate.start();
}

/** Ends a connection that still waits at the gate; its client knows that nothing it sent was looked at. */
export function turnAway(socket: Socket): void {
  const goAway = { type: TYPE_GOAWAY, flags: 0, streamId: 0 };
  socket.end(encodeFrame(goAway, new Uint8Array(8)), () => socket.destroy());
}

class Gate {
  readonly #socket: Socket;
  readonly #onAdmitted: (connection: Duplex) => void;
  readonly #passed: Buffer[] = [];
  #passedBytes = 0;
  #held: Buffer = Buffer.alloc(0);
  #greeted = false;
  #acknowledged = false;
  #open: { streamId: number; blocks: Buffer[] } | undefined;
  #authority: "unknown" | "fit" | "unfit" = "unknown";
  #timer: NodeJS.Timeout;

  constructor(socket: Socket, onAdmitted: (connection: Duplex) => void) {
    this.#socket = socket;
    this.#onAdmitted = onAdmitted;
    this.#timer = setTimeout(() => socket.destroy(), GREETING_TIMEOUT_MS);
  }

  readonly #onReadable = (): void => {
    try {
      for (;;) {
        const chunk = this.#socket.read() as Buffer | null; // -- no encoding is set on the socket
        if (chunk === null) return;
        this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
        while (this.#takeOne()) if (this.#isDone()) return this.#admit();
        const unread = this.#socket.writableLength;
        if (this.#held.length + this.#passedBytes + unread > HELD_BYTES_MAX) {
          throw new Error("too long");
        }
      }
    } catch {
      // No HTTP/2, or a header block that nobody could decode: there is nothing to answer it with.
      this.#socket.destroy();
    }
  };
  readonly #onClose = (): void => clearTimeout(this.#timer);
  readonly #onError = (): void => {
    // It closes as well.
  };

  start(): void {
    const socket = this.#socket;
    socket.on("readable", this.#onReadable);
    socket.on("close", this.#onClose);
    socket.on("error", this.#onError);
    socket.write(encodeFrame({ type: TYPE_SETTINGS, flags: 0, streamId: 0 }, new Uint8Array()));
  }

  #isDone(): boolean {
    return this.#acknowledged && this.#authority !== "unknown";
  }

  #admit(): void {
    const socket = this.#socket;
    clearTimeout(this.#timer);
    socket.off("readable", this.#onReadable);
    socket.off("close", this.#onClose);
    socket.off("error", this.#onError);
    const rest = this.#held;
    if (this.#authority === "fit") {
      socket.unshift(Buffer.concat([...this.#passed, rest]));
      this.#onAdmitted(socket);
      return;
    }
    const rewriting = new RewritingSocket(socket, new HeaderRewriter(withFitAuthority));
    rewriting.push(PREFACE);
    const afterPreface = Buffer.concat([...this.#passed.slice(1), rest]);
    socket.unshift(afterPreface);
    this.#onAdmitted(rewriting);
  }

  /** Takes the preface or one frame from what is held; false when it is not all there. */
  #takeOne(): boolean {
    if (!this.#greeted) {
      const expected = PREFACE.subarray(0, this.#held.length);
      if (!this.#held.subarray(0, PREFACE.length).equals(expected)) throw new Error("no HTTP/2");
      if (this.#held.length < PREFACE.length) return false;
      this.#greeted = true;
      this.#pass(PREFACE.length);
      return true;
    }
    const header = decodeFrameHeader(this.#held);
    if (!header) return false;
    if (header.length > FRAME_PAYLOAD_BYTES_MAX) throw new Error("frame too long");
    const end = FRAME_HEADER_BYTES + header.length;
    if (this.#held.length < end) return false;
    const payload = this.#held.subarray(FRAME_HEADER_BYTES, end);
    if (this.#answers(header, payload)) this.#held = this.#held.subarray(end);
    else this.#pass(end);
    return true;
  }

  /** Handles a frame; true when it is not to be passed on. */
  #answers(header: FrameHeader, payload: Buffer): boolean {
    const isAck = (header.flags & FLAG_ACK) !== 0;
    switch (header.type) {
      case TYPE_SETTINGS:
        if (!isAck) {
          if (this.#authority === "unknown") clearTimeout(this.#timer);
          return false;
        }
        if (this.#acknowledged) return false;
        this.#acknowledged = true;
        return true;
      case TYPE_PING:
        if (isAck) return false;
        this.#socket.write(encodeFrame({ ...header, flags: FLAG_ACK }, payload));
        return true;
      case TYPE_HEADERS:
      case TYPE_CONTINUATION:
        if (this.#authority === "unknown") this.#onHeaders(header, payload);
        return false;
      default:
        return false;
    }
  }

  #onHeaders({ type, flags, streamId }: FrameHeader, payload: Buffer): void {
    if (type === TYPE_HEADERS) {
      this.#open = { streamId, blocks: [headerFragment(flags, payload).block] };
    } else {
      this.#open?.blocks.push(payload);
    }
    if (!this.#open || this.#open.streamId !== streamId) {
      throw new Error("CONTINUATION out of place");
    }
    if ((flags & FLAG_END_HEADERS) === 0) return;
    const fields = new HpackDecoder().decode(Buffer.concat(this.#open.blocks));
    this.#open = undefined;
    this.#authority = fields.every(isFit) ? "fit" : "unfit";
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#socket.destroy(), ACK_TIMEOUT_MS);
  }

  #pass(bytes: number): void {
    this.#passed.push(this.#held.subarray(0, bytes));
    this.#passedBytes += bytes;
    this.#held = this.#held.subarray(bytes);
  }
}

/** Whether nghttp2 takes the field, as far as the authority goes. */
function isFit({ name, value }: HeaderField): boolean {
  return name !== ":authority" || /^[A-Za-z0-9\-._~%!$&'()*+,;=:@[\]]+$/.test(value);
}

function withFitAuthority(field: HeaderField): HeaderField {
  return isFit(field) ? field : { ...field, value: "localhost" };
}
