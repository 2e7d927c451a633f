import type { Stream } from "#core/streaming/streaming.ts";
import { ByteSender } from "#core/transfer/byte-stream.ts";
import type { Context } from "#pkg/context.ts";
import { settledOrAborted } from "#pkg/until.ts";

const queuedBytesMax = 1 << 20;
const flushTimeoutMs = 5_000;

/**
 * Sends text as a byte stream without holding up who writes it: a client that does not keep up with it misses what
 * is too much.
 */
export class TextSender implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #sender: ByteSender;
  readonly #queue: Buffer[] = [];
  #queuedBytes = 0;
  #sending: Promise<void> | undefined;
  #isOver = false;

  constructor(ctx: Context, stream: Stream) {
    this.#ctx = ctx;
    this.#sender = new ByteSender(stream);
  }

  send(text: string): void {
    const bytes = Buffer.from(text);
    if (this.#isOver || this.#queuedBytes + bytes.length > queuedBytesMax) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#sending ??= this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    try {
      for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
        await this.#sender.write(this.#ctx, next);
        this.#queuedBytes -= next.length;
      }
    } catch (error) {
      this.#isOver = true;
      this.#queue.length = 0;
      this.#ctx.logger.debug("text not sent", { error });
    }
    this.#sending = undefined;
  }

  /** What was written has left before the call is answered, or never will. */
  async [Symbol.asyncDispose](): Promise<void> {
    const bounded = this.#ctx.withTimeout(flushTimeoutMs);
    await settledOrAborted(this.#sending ?? Promise.resolve(), bounded).catch((error: unknown) => {
      this.#ctx.logger.debug("not all text was sent", { error });
    });
    this.#isOver = true;
    await this.#sender.close();
  }
}
