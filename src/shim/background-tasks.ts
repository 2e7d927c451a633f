import type { Logger } from "#pkg/log.ts";

/** Owns what goes on after a call has returned. A failure is logged: nobody is left to be told. */
export class BackgroundTasks {
  readonly #logger: Logger;
  readonly #running = new Set<Promise<void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  go(task: () => Promise<void>): void {
    const run = Promise.try(task)
      .catch((error: unknown) => this.#logger.error("background task failed", { error }))
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Resolves when nothing runs any more. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
