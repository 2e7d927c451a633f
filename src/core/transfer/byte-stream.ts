import type { Stream } from "#core/streaming/streaming.ts";
import { byteStreamMessage, dataToAny, windowToAny } from "#core/transfer/convert.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, unavailable, wrap } from "#pkg/errors.ts";

// Bytes on a stream: the receiver grants a window, the sender uses it up in pieces and waits for more.
const pieceBytesMax = 32 << 10;
const windowBytes = 2 * pieceBytesMax;
const grantBytesMax = 2 ** 31 - 1;

/**
 * The bytes that the other side sends, in pieces as they come, until it sends no more.
 *
 * A new window is granted whenever less than one is left, as upstream does. The stream is closed at the end, also
 * when the reader leaves early: then the other side sees it end before all was sent.
 */
export async function* receiveBytes(
  ctx: Context,
  stream: Stream,
): AsyncGenerator<Buffer, void, undefined> {
  let granted = 0;
  try {
    for (;;) {
      const refusal = granted < windowBytes ? await grant(ctx, stream) : undefined;
      if (granted < windowBytes) granted += windowBytes;
      const message = await stream.receive(ctx).catch((error: unknown) => {
        throw wrap("receive bytes", error);
      });
      if (message === undefined) return;
      if (refusal) throw refusal.error;
      const parsed = byteStreamMessage(message);
      if (parsed?.kind !== "data") {
        ctx.logger.warn("unexpected message on a byte stream", { type: message.typeUrl });
        continue;
      }
      granted -= parsed.data.length;
      if (parsed.data.length > 0)
        yield Buffer.from(parsed.data.buffer, parsed.data.byteOffset, parsed.data.length);
    }
  } finally {
    await stream.close();
  }
}

/** A window that cannot be sent counts only if the other side has more to say. */
async function grant(ctx: Context, stream: Stream): Promise<{ error: unknown } | undefined> {
  try {
    await stream.send(ctx, windowToAny(windowBytes));
    return undefined;
  } catch (error) {
    ctx.throwIfEnded();
    return { error };
  }
}

/** Sends bytes as the other side grants them. */
export class ByteSender {
  readonly #stream: Stream;
  #window = 0;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Resolves when the bytes are on their way; they may be used again then. One call at a time. */
  async write(ctx: Context, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      while (this.#window === 0) await this.#waitForWindow(ctx);
      const length = Math.min(pieceBytesMax, this.#window, bytes.length - at);
      this.#window -= length;
      await this.#stream.send(ctx, dataToAny(bytes.subarray(at, at + length)));
      at += length;
    }
  }

  /** Says that nothing follows, once everything has left. Throws `unavailable` when it could not leave. */
  async finish(ctx: Context): Promise<void> {
    await this.#stream.flush(ctx);
    await this.#stream.close();
  }

  /** Ends the stream, possibly early. */
  close(): Promise<void> {
    return this.#stream.close();
  }

  async #waitForWindow(ctx: Context): Promise<void> {
    const message = await this.#stream.receive(ctx);
    if (message === undefined) throw unavailable("the receiver of the bytes is gone");
    const parsed = byteStreamMessage(message);
    if (parsed?.kind !== "window") {
      ctx.logger.warn("unexpected message on a byte stream", { type: message.typeUrl });
      return;
    }
    if (parsed.bytes < 0) throw invalidArgument(`window update ${parsed.bytes} is negative`);
    this.#window = Math.min(this.#window + parsed.bytes, grantBytesMax);
  }
}
