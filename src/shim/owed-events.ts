import type { Any } from "#pkg/any.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";
import { toEventAny } from "./convert.ts";
import type { TaskEvent } from "./task-events.ts";

/** An event as it goes out. */
export interface OwedEvent {
  readonly at: UnixNanos;
  readonly topic: string;
  readonly event: Any;
}

/** The same in a record; `at` in nanoseconds, `value` in base64. */
export interface OwedEventRecord {
  readonly at: string;
  readonly topic: string;
  readonly typeUrl: string;
  readonly value: string;
}

export type Publish = (event: OwedEvent, onSettled?: () => void) => void;

export interface OwedEventsHooks {
  readonly publish: Publish;
  /** One is no longer owed. */
  readonly onSettled: () => void;
}

/**
 * What has happened to a task and its daemon has not been told of.
 *
 * An event is owed first, then recorded together with what it tells of, and told then: a supervisor
 * that dies anywhere in between leaves it to its successor, which tells the rest in their order.
 * One that arrived and was not yet crossed off comes twice, byte for byte and of the same time, by
 * which the daemon knows it.
 */
export class OwedEvents {
  readonly #hooks: OwedEventsHooks;
  readonly #owed = new Set<OwedEvent>();

  constructor(hooks: OwedEventsHooks) {
    this.#hooks = hooks;
  }

  /** Part of the record from now on. Whoever calls tells it, once that is written. */
  owe(event: TaskEvent): OwedEvent {
    const owed = toOwed(event);
    this.#owed.add(owed);
    return owed;
  }

  /** Of something that is taken back: nobody was told. */
  drop(owed: OwedEvent): void {
    this.#owed.delete(owed);
  }

  /**
   * For what a successor finds out, and tells, without this. Resolves when the daemon has it, or
   * never will.
   */
  tellUnrecorded(event: TaskEvent): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#hooks.publish(toOwed(event), resolve);
    return promise;
  }

  tell(owed: OwedEvent): void {
    this.#hooks.publish(owed, () => {
      this.#owed.delete(owed);
      this.#hooks.onSettled();
    });
  }

  /** Tells what an earlier supervisor has left untold. */
  takeOver(records: readonly OwedEventRecord[]): void {
    for (const { at, topic, typeUrl, value } of records) {
      const event = { typeUrl, value: Buffer.from(value, "base64") };
      const owed = { at: BigInt(at), topic, event };
      this.#owed.add(owed);
      this.tell(owed);
    }
  }

  records(): OwedEventRecord[] {
    return [...this.#owed].map(({ at, topic, event: { typeUrl, value } }) => {
      return { at: String(at), topic, typeUrl, value: Buffer.from(value).toString("base64") };
    });
  }
}

function toOwed(event: TaskEvent): OwedEvent {
  // Each successor tells the exit of what has not been deleted: as of when it was seen.
  const at = event.topic === "/tasks/exit" ? event.exit.at : nowNanos();
  return { at, topic: event.topic, event: toEventAny(event) };
}
