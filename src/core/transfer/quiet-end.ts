/** After the answer only what was on its way already may come. */
const quietMs = 1_000;

/**
 * The end of a stream that its sender leaves open, as Go's daemon does those of exports: nothing has come for a while
 * since the transfer was answered. A sender that ends its stream is not waited for.
 */
export class QuietEnd implements Disposable {
  readonly #controller = new AbortController();
  #isAnswered = false;
  #timer: NodeJS.Timeout | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  answered(): void {
    this.#isAnswered = true;
    this.waiting();
  }

  waiting(): void {
    clearTimeout(this.#timer);
    if (this.#isAnswered) this.#timer = setTimeout(() => this.#controller.abort(), quietMs);
  }

  /** Something has come, and is being dealt with. */
  busy(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.#isAnswered = false;
    clearTimeout(this.#timer);
  }
}
