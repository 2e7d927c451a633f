import { codeOf, type ErrorCode } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import type { OwedEvent } from "./owed-events.ts";

export interface Envelope extends OwedEvent {
  readonly namespace: string;
}

/** Brings one event to the daemon; rejects when it is not there. Must be bounded in time. */
export type Forward = (envelope: Envelope) => Promise<void>;

export interface PublisherOptions {
  readonly namespace: string;
  readonly forward: Forward;
  readonly logger: Logger;
  /** Waits between tries. Ends early where trying again makes sense, and when the signal aborts. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

const queueMax = 2048;
interface Queued {
  readonly envelope: Envelope;
  readonly onSettled: () => void;
}

/** Of an event that the daemon answers to, and does not take. */
const triesMax = 6;
/** What a daemon answers that is away, or hangs: nothing. */
const noAnswers: readonly ErrorCode[] = ["unavailable", "deadline-exceeded", "canceled"];
const pauseSecondsMax = 5;

/**
 * Hands events to the daemon, in the order they were published and one at a time.
 *
 * The daemon may be away (a restart, an upgrade): an event is tried until it is back, one, two, ...
 * at most five seconds apart, and the ones behind it wait, so that an exit never overtakes its
 * start. One that the daemon refuses is given up after six tries. Beyond 2048 waiting events the
 * oldest is dropped, and nobody hears of it any more: the state says it still to those who ask.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue: Queued[] = [];
  readonly #stopping = new AbortController();
  #worker: Promise<void> | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /**
   * `onSettled` is called when the daemon has it, or never will. It is not called for what is left
   * when the supervisor ends: that is its successor's to tell.
   */
  publish(event: OwedEvent, onSettled: () => void = () => {}): void {
    const { namespace, logger } = this.#options;
    if (this.#queue.length >= queueMax) {
      const dropped = this.#queue.shift();
      const topic = dropped?.envelope.topic;
      logger.error("event queue is full, dropping the oldest", { topic });
      dropped?.onSettled();
    }
    this.#queue.push({ envelope: { ...event, namespace }, onSettled });
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

  async #deliver({ envelope, onSettled }: Queued): Promise<void> {
    const { forward, logger, sleep } = this.#options;
    const { topic } = envelope;
    const { signal } = this.#stopping;
    let refusals = 0;
    for (let tries = 1; !signal.aborted; tries += 1) {
      try {
        await forward(envelope);
        onSettled();
        return;
      } catch (error) {
        // One that is away for long is said once.
        if (tries <= triesMax) logger.warn("forward event", { error, topic, tries });
        if (!noAnswers.includes(codeOf(error))) refusals += 1;
        if (refusals === triesMax) {
          logger.error("evicting event from queue because of retry count", { topic });
          onSettled();
          return;
        }
        if (!signal.aborted) await sleep(Math.min(tries, pauseSecondsMax) * 1000, signal);
      }
    }
    logger.warn("event is left to a successor", { topic });
  }
}
