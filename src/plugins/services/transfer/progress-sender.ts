import type { Stream } from "#core/streaming/streaming.ts";
import type { Progress } from "#core/transfer/transfer.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** Above this, steps that a later one overtakes are dropped; a multiple of it is never kept. */
const queuedMax = 256;
const queuedLimit = 8 * queuedMax;
const flushTimeoutMs = 5_000;

/**
 * Sends progress without holding up the transfer: a client that reads slowly misses steps, one that reads nothing
 * misses everything, and the transfer goes on.
 */
export class ProgressSender implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #stream: Stream;
  readonly #toAny: (progress: Progress) => Any;
  readonly #queue: Any[] = [];
  #sending: Promise<void> | undefined;
  #isBroken = false;

  constructor(ctx: Context, stream: Stream, toAny: (progress: Progress) => Any) {
    this.#ctx = ctx;
    this.#stream = stream;
    this.#toAny = toAny;
  }

  send(progress: Progress): void {
    if (this.#isBroken || this.#queue.length >= queuedLimit) return;
    const isStep = progress.event === "downloading" || progress.event === "uploading";
    if (isStep && this.#queue.length >= queuedMax) return;
    this.#queue.push(this.#toAny(progress));
    this.#sending ??= this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    try {
      for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
        await this.#stream.send(this.#ctx, next);
      }
    } catch (error) {
      this.#isBroken = true;
      this.#queue.length = 0;
      this.#ctx.logger.debug("progress not sent", { error });
    }
    this.#sending = undefined;
  }

  /** What was sent has left before the transfer is answered: clients stop listening with the answer. */
  async [Symbol.asyncDispose](): Promise<void> {
    const bounded = this.#ctx.withTimeout(flushTimeoutMs);
    await settledOrAborted(this.#sending ?? Promise.resolve(), bounded).catch((error: unknown) => {
      this.#ctx.logger.debug("not all progress was sent", { error });
    });
    this.#isBroken = true;
    await this.#stream.close();
  }
}
