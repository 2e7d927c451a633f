import { Outbox } from "#core/streaming/outbox.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** A stream over one streaming call, on either side of it: what comes in, and an outbox that the call reads. */
export class CallStream implements Stream {
  readonly #incoming: AsyncIterator<Any>;
  readonly #outbox: Outbox;
  #pending: Promise<Any | undefined> | undefined;

  constructor(incoming: AsyncIterator<Any>, outbox: Outbox) {
    this.#incoming = incoming;
    this.#outbox = outbox;
  }

  send(ctx: Context, message: Any): Promise<void> {
    return this.#outbox.send(ctx, message);
  }

  /** A caller that gives up leaves the message to the next one. */
  async receive(ctx: Context): Promise<Any | undefined> {
    ctx.throwIfEnded();
    if (!this.#pending) {
      this.#pending = this.#next();
      this.#pending.catch(() => {}); // it fails with the call, when nobody may be waiting any more
    }
    const message = await settledOrAborted(this.#pending, ctx);
    this.#pending = undefined;
    return message;
  }

  flush(ctx: Context): Promise<void> {
    return this.#outbox.flush(ctx);
  }

  close(): Promise<void> {
    return this.#outbox.close();
  }

  async #next(): Promise<Any | undefined> {
    const item = await this.#incoming.next();
    return item.done === true ? undefined : item.value;
  }
}
