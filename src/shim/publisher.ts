import type { Logger } from "#pkg/log.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";
import type { TaskEvent } from "./task-events.ts";

export interface Envelope {
  readonly at: UnixNanos;
  readonly namespace: string;
  readonly event: TaskEvent;
}

/** Brings one event to the daemon; rejects when it is not there. Must be bounded in time. */
export type Forward = (envelope: Envelope) => Promise<void>;

export interface PublisherOptions {
  readonly namespace: string;
  readonly forward: Forward;
  readonly logger: Logger;
  /** Waits between tries, for tests. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

const queueMax = 2048;
const triesMax = 6;

/**
 * Hands events to the daemon, in the order they were published and one at a time.
 *
 * The daemon may be away for a while (a restart): an event is tried six times, one, two, ...
 * seconds apart, and the ones behind it wait, so that an exit never overtakes its start. Beyond
 * 2048 waiting events the oldest is dropped; the daemon asks for states anyway when it comes back.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue: Envelope[] = [];
  readonly #stopping = new AbortController();
  #worker: Promise<void> | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  publish(event: TaskEvent): void {
    const { namespace, logger } = this.#options;
    if (this.#queue.length >= queueMax) {
      const dropped = this.#queue.shift();
      logger.error("event queue is full, dropping the oldest", { topic: dropped?.event.topic });
    }
    this.#queue.push({ at: nowNanos(), namespace, event });
    this.#worker ??= this.#work().finally(() => {
      this.#worker = undefined;
    });
  }

  /** Resolves when the queue is empty or the time is over; then what is left is dropped. */
  async flush(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#stopping.abort(), timeoutMs);
    try {
      while (this.#worker) await this.#worker;
    } finally {
      clearTimeout(timer);
    }
  }

  async #work(): Promise<void> {
    for (;;) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      await this.#deliver(next);
    }
  }

  async #deliver(envelope: Envelope): Promise<void> {
    const { forward, logger } = this.#options;
    const { topic } = envelope.event;
    const { signal } = this.#stopping;
    for (let tries = 1; tries <= triesMax && !signal.aborted; tries += 1) {
      try {
        await forward(envelope);
        return;
      } catch (error) {
        logger.warn("forward event", { error, topic, tries });
        if (tries < triesMax) await this.#pause(tries * 1000);
      }
    }
    logger.error("evicting event from queue because of retry count", { topic });
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#stopping;
    const sleep = this.#options.sleep ?? sleepUntil;
    if (!signal.aborted) await sleep(ms, signal);
  }
}

/** Ends early, without an error, when the signal aborts. */
function sleepUntil(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", done, { once: true });
  function done(): void {
    clearTimeout(timer);
    signal.removeEventListener("abort", done);
    resolve();
  }
  return promise;
}
