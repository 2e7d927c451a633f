/**
 * Runs tasks that live and die together. The first failure aborts the others; leaving the scope aborts what still
 * runs and waits for it.
 */
export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #signal: AbortSignal;
  #failure: { reason: unknown } | undefined;

  constructor(parent: AbortSignal) {
    this.#signal = AbortSignal.any([parent, this.#controller.signal]);
  }

  go(task: (signal: AbortSignal) => Promise<void>): void {
    const run = Promise.try(task, this.#signal)
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
        this.#controller.abort(reason);
      })
      .finally(() => {
        this.#running.delete(run);
      });
    this.#running.add(run);
  }

  /** Resolves when every task has ended; rejects with the first failure. */
  async wait(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    // -- the reason is whatever the task threw; it is passed on as it came
    if (this.#failure) throw this.#failure.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
