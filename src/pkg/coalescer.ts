/**
 * Shares one run of a job among all who ask for it while another run is under way.
 *
 * Every caller gets a run that started after it asked, so what it did before is covered: a sync of a file, a
 * collection. At most one run is under way and at most one waits.
 */
export class Coalescer<T> {
  readonly #job: () => Promise<T>;
  #running: Promise<T> | undefined;
  #next: Promise<T> | undefined;

  constructor(job: () => Promise<T>) {
    this.#job = job;
  }

  run(): Promise<T> {
    if (this.#next) return this.#next;
    if (!this.#running) return this.#start();
    const start = (): Promise<T> => {
      this.#next = undefined;
      return this.#start();
    };
    this.#next = this.#running.then(start, start);
    return this.#next;
  }

  /** The run that is under way, for who did not ask for one. */
  get underWay(): Promise<T> | undefined {
    return this.#running;
  }

  /** Resolves when nothing runs and nothing waits; failures belong to those who asked. */
  async idle(): Promise<void> {
    for (let last = this.#next ?? this.#running; last; last = this.#next ?? this.#running) {
      await last.then(
        () => {},
        () => {},
      );
    }
  }

  #start(): Promise<T> {
    const run = Promise.try(this.#job);
    this.#running = run;
    const end = (): void => {
      if (this.#running === run) this.#running = undefined;
    };
    run.then(end, end);
    return run;
  }
}
