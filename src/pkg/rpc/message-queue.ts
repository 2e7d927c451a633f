/**
 * A bounded queue between one producer and one consumer of a stream.
 *
 * The producer asks `isFull` or looks at what `offer` returns; `onRoom` tells it when a full queue has room again.
 * Items offered before `end` or `fail` are still delivered. A consumer that stops early calls `return`, which drops
 * what is queued and refuses what comes.
 */
export class MessageQueue<T> implements AsyncIterableIterator<T> {
  /** Called when a full queue has room again, and when the queue ends for good. */
  onRoom: (() => void) | undefined;
  /** Called once, when the consumer stops before the end. */
  onReturn: (() => void) | undefined;

  readonly #capacity: number;
  readonly #items: T[] = [];
  #state: { kind: "open" } | { kind: "ended" } | { kind: "failed"; error: Error } = {
    kind: "open",
  };
  #waiter: PromiseWithResolvers<IteratorResult<T>> | undefined;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get isFull(): boolean {
    return this.#items.length >= this.#capacity;
  }

  get isOpen(): boolean {
    return this.#state.kind === "open";
  }

  /** False when the item was not taken: the queue is full or has ended. */
  offer(item: T): boolean {
    if (this.#state.kind !== "open") return false;
    if (this.#waiter) {
      this.#waiter.resolve({ done: false, value: item });
      this.#waiter = undefined;
      return true;
    }
    if (this.isFull) return false;
    this.#items.push(item);
    return true;
  }

  end(): void {
    this.#finish({ kind: "ended" });
  }

  fail(error: Error): void {
    this.#finish({ kind: "failed", error });
  }

  next(): Promise<IteratorResult<T>> {
    const wasFull = this.isFull;
    const item = this.#items.shift();
    if (item !== undefined) {
      if (wasFull) this.onRoom?.();
      return Promise.resolve({ done: false, value: item });
    }
    switch (this.#state.kind) {
      case "ended":
        return Promise.resolve({ done: true, value: undefined });
      case "failed": {
        const { error } = this.#state;
        this.#state = { kind: "ended" };
        return Promise.reject(error);
      }
      case "open":
        this.#waiter ??= Promise.withResolvers();
        return this.#waiter.promise;
    }
  }

  return(): Promise<IteratorResult<T>> {
    const stoppedEarly = this.isOpen;
    this.#items.length = 0;
    this.#state = { kind: "ended" };
    this.#waiter?.resolve({ done: true, value: undefined });
    this.#waiter = undefined;
    this.onRoom?.();
    if (stoppedEarly) this.onReturn?.();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(state: { kind: "ended" } | { kind: "failed"; error: Error }): void {
    if (this.#state.kind !== "open") return;
    this.#state = state;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter && state.kind === "failed") {
      this.#state = { kind: "ended" };
      waiter.reject(state.error);
    } else {
      waiter?.resolve({ done: true, value: undefined });
    }
    this.onRoom?.();
  }
}
