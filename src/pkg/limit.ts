import type { Context } from "#pkg/context.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** At most so many at once, whoever asks; first come first served. */
export class Limit {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(max: number) {
    this.#free = max;
  }

  /** Holds one until it is disposed; twice is once. Rejects when `ctx` ends before there is one. */
  async acquire(ctx?: Context): Promise<Disposable> {
    ctx?.throwIfEnded();
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      try {
        await (ctx ? settledOrAborted(promise, ctx) : promise);
      } catch (error) {
        // Its turn may have come in the same moment.
        if (!this.#waiting.delete(resolve)) this.#release();
        throw error;
      }
    }
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#release();
        isHeld = false;
      },
    };
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }
}
