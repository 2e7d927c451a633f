import type { Logger } from "#pkg/log.ts";

/** Runs what goes on after a call has returned. A failure is logged: nobody is left to be told. */
export class BackgroundTasks {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  go(task: () => Promise<void>): void {
    void Promise.try(task).catch((error: unknown) => {
      this.#logger.error("background task failed", { error });
    });
  }
}
