import { eventField } from "#core/events/convert.ts";
import type { Envelope, Exchange } from "#core/events/events.ts";
import type { Any } from "#pkg/any.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { codeOf, invalidArgument, resourceExhausted, wrap } from "#pkg/errors.ts";
import { field, type Filter } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";

export interface ExchangeLimits {
  /** What one subscriber may leave unread before its subscription ends. */
  readonly eventsMax: number;
  readonly bytesMax: number;
}

const defaultLimits: ExchangeLimits = { eventsMax: 65_536, bytesMax: 64 << 20 };

/** What a timestamp that nobody set reads as: the zero time of Go, the first day of the year 1. */
export const unsetTimestamp: UnixNanos = -62_135_596_800n * 1_000_000_000n;

/**
 * The bus of one process.
 *
 * A subscription stands from the moment `subscribe` returns and holds back nobody: what its reader
 * has not taken yet is kept up to the limits, and a reader that falls further behind gets
 * `resource-exhausted` after the last event kept, rather than a stream with a gap it cannot see.
 * `close` ends all subscriptions as if their readers had.
 */
export class InProcessExchange implements Exchange, Disposable {
  readonly #subscriptions = new Set<Subscription>();
  readonly #limits: ExchangeLimits;

  constructor(limits: ExchangeLimits = defaultLimits) {
    this.#limits = limits;
  }

  async publish(ctx: Context, topic: string, event: Any): Promise<void> {
    let namespace: string;
    try {
      namespace = requireNamespace(ctx);
    } catch (error) {
      throw wrap("failed publishing event", error);
    }
    assertTopic(topic);
    this.#send({ timestamp: nowNanos(), namespace, topic, event });
    ctx.logger.trace("event published", { topic, ns: namespace, type: event.typeUrl });
  }

  async forward(ctx: Context, envelope: Envelope): Promise<void> {
    try {
      assertIdentifier(envelope.namespace);
    } catch (error) {
      throw wrap("event envelope has invalid namespace", error);
    }
    assertTopic(envelope.topic);
    if (envelope.timestamp === unsetTimestamp) {
      throw invalidArgument("timestamp must be set on forwarded event");
    }
    this.#send(envelope);
    const { topic, namespace, event } = envelope;
    ctx.logger.trace("event forwarded", { topic, ns: namespace, type: event.typeUrl });
  }

  /** Throws `invalid-argument` for a filter that does not parse. */
  subscribe(ctx: Context, filters: readonly string[] = []): AsyncIterable<Envelope> {
    let filter: Filter;
    try {
      filter = parseFilters(filters);
    } catch (error) {
      throw wrap("failed parsing subscription filters", error);
    }
    return new Subscription(ctx, filter, this.#limits, this.#subscriptions);
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.end();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send(envelope: Envelope): void {
    for (const subscription of this.#subscriptions) subscription.offer(envelope);
  }
}

class Subscription implements AsyncIterableIterator<Envelope, undefined> {
  readonly #ctx: Context;
  readonly #filter: Filter;
  readonly #limits: ExchangeLimits;
  /** The others of the exchange; this one is among them until it ends. */
  readonly #all: Set<Subscription>;
  readonly #onAbort = (): void => this.end();
  #queue: Envelope[] = [];
  /** Of the first in the queue: taking from the front of an array is linear in its length. */
  #head = 0;
  #bytes = 0;
  #ended = false;
  #overflow: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(ctx: Context, filter: Filter, limits: ExchangeLimits, all: Set<Subscription>) {
    this.#ctx = ctx;
    this.#filter = filter;
    this.#limits = limits;
    this.#all = all.add(this);
    ctx.signal.addEventListener("abort", this.#onAbort, { once: true });
    if (ctx.signal.aborted) this.end();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  offer(envelope: Envelope): void {
    if (!this.#filter((path) => envelopeField(envelope, path))) return;
    this.#queue.push(envelope);
    this.#bytes += sizeOf(envelope);
    const waiting = this.#queue.length - this.#head;
    if (waiting > this.#limits.eventsMax || this.#bytes > this.#limits.bytesMax) {
      this.#queue.pop();
      this.#overflow = resourceExhausted(`subscriber is ${waiting} events behind`);
      this.#stop();
    }
    this.#wake?.();
  }

  /** What was queued is dropped: whoever ended this does not read on. */
  end(): void {
    this.#queue = [];
    this.#head = 0;
    this.#stop();
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Envelope, undefined>> {
    while (this.#head === this.#queue.length && !this.#ended) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    const value = this.#queue[this.#head];
    if (value) {
      this.#take(value);
      return { done: false, value };
    }
    if (this.#overflow) throw this.#overflow;
    this.#throwIfLate();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Envelope, undefined>> {
    this.end();
    return { done: true, value: undefined };
  }

  #take(envelope: Envelope): void {
    this.#bytes -= sizeOf(envelope);
    this.#head += 1;
    if (this.#head < 1024 && this.#head < this.#queue.length) return;
    this.#queue.splice(0, this.#head);
    this.#head = 0;
  }

  #stop(): void {
    this.#ended = true;
    this.#ctx.signal.removeEventListener("abort", this.#onAbort);
    this.#all.delete(this);
  }

  /** A cancel is the normal end of a subscription; a deadline is an error, as upstream. */
  #throwIfLate(): void {
    try {
      this.#ctx.throwIfEnded();
    } catch (error) {
      if (codeOf(error) !== "canceled") throw error;
    }
  }
}

function envelopeField(envelope: Envelope, [name, ...rest]: readonly string[]): string | undefined {
  if (name === "namespace") return field(envelope.namespace);
  if (name === "topic") return field(envelope.topic);
  if (name === "event") return eventField(envelope.event, rest);
  return undefined;
}

/** Roughly what an envelope occupies. */
function sizeOf({ event, namespace, topic }: Envelope): number {
  return 256 + event.value.length + event.typeUrl.length + namespace.length + topic.length;
}

function assertTopic(topic: string): void {
  const context = `envelope topic ${JSON.stringify(topic)}`;
  if (topic === "") throw invalidArgument(`${context}: must not be empty`);
  if (!topic.startsWith("/")) throw invalidArgument(`${context}: must start with '/'`);
  if (topic === "/") throw invalidArgument(`${context}: must have at least one component`);
  for (const component of topic.slice(1).split("/")) {
    try {
      assertIdentifier(component);
    } catch (error) {
      throw wrap(`${context}: failed validation on component ${JSON.stringify(component)}`, error);
    }
  }
}
