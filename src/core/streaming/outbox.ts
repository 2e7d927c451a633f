import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { unavailable } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

const queuedMax = 16;
const closeTimeoutMs = 5_000;

/**
 * What is to be sent on a stream, between those who send and the call that carries it.
 *
 * `messages` is read by one reader, the call; its end, however it comes, ends the outbox.
 */
export class Outbox {
  readonly #queue: Any[] = [];
  readonly #ended: PromiseWithResolvers<void> = Promise.withResolvers();
  #state: "open" | "closing" | "ended" = "open";
  #turn: Promise<void> = Promise.resolve();
  #isDrained = true;
  #room: PromiseWithResolvers<void> | undefined;
  #arrival: PromiseWithResolvers<void> | undefined;
  /** Settles when the reader has come back for more and found nothing. */
  #drained: PromiseWithResolvers<void> | undefined;

  /** Senders take turns; one that gives up leaves the message unsent. */
  send(ctx: Context, message: Any): Promise<void> {
    const sent = this.#turn.then(() => this.#put(ctx, message));
    this.#turn = sent.catch(() => {});
    return sent;
  }

  async #put(ctx: Context, message: Any): Promise<void> {
    while (this.#state === "open" && this.#queue.length >= queuedMax) {
      this.#room ??= Promise.withResolvers();
      await settledOrAborted(this.#room.promise, ctx);
    }
    ctx.throwIfEnded();
    if (this.#state !== "open") throw unavailable("stream closed");
    this.#queue.push(message);
    this.#isDrained = false;
    this.#arrival?.resolve();
  }

  /** Resolves when everything was read and the reader came back; throws `unavailable` when it never will. */
  async flush(ctx: Context): Promise<void> {
    await settledOrAborted(this.#turn, ctx);
    while (this.#state !== "ended" && !this.#isDrained) {
      this.#drained ??= Promise.withResolvers();
      await settledOrAborted(this.#drained.promise, ctx);
    }
    if (!this.#isDrained) throw unavailable("stream closed");
  }

  async *messages(): AsyncGenerator<Any, void, undefined> {
    try {
      for (;;) {
        const message = this.#queue.shift();
        if (message !== undefined) {
          this.#wakeSenders();
          this.#isDrained = false;
          yield message;
          continue;
        }
        this.#isDrained = true;
        this.#wakeFlushers();
        if (this.#state !== "open") return;
        this.#arrival = Promise.withResolvers();
        await this.#arrival.promise;
      }
    } finally {
      this.end();
    }
  }

  /** Takes no more; resolves when what was taken is sent, or will not be. Waits a few seconds, no longer. */
  async close(): Promise<void> {
    if (this.#state === "open") this.#state = "closing";
    this.#wakeSenders();
    this.#arrival?.resolve();
    const timeout = Promise.withResolvers<void>();
    const timer = setTimeout(timeout.resolve, closeTimeoutMs);
    await Promise.race([this.#ended.promise, timeout.promise]);
    clearTimeout(timer);
    this.end();
  }

  /** Drops what was not sent. */
  end(): void {
    this.#state = "ended";
    this.#queue.length = 0;
    this.#arrival?.resolve();
    this.#wakeSenders();
    this.#wakeFlushers();
    this.#ended.resolve();
  }

  #wakeSenders(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  #wakeFlushers(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}
