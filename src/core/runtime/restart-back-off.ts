export interface RestartBackOffOptions {
  /** Before the first, second, ... start in a row; the last one stays. */
  readonly delaysMs: readonly [number, ...number[]];
  /** Whoever has served for that long has nothing to do with deaths before. */
  readonly steadyMs: number;
  /** How long starts may fail, one after the other, until nothing is hoped for any more. */
  readonly giveUpMs: number;
}

/**
 * One that dies again and again is started again and again, at last every half a minute: its
 * containers run on meanwhile, and to end them would lose what nobody need lose. Only where there
 * is no starting it at all for ten minutes nobody can say that they will ever be looked after.
 */
export const defaultRestartBackOff: RestartBackOffOptions = {
  delaysMs: [0, 200, 1_000, 2_000, 5_000, 10_000, 30_000],
  steadyMs: 60_000,
  giveUpMs: 600_000,
};

/** When a supervisor is started again: later each time, and for ever as long as it can be started. */
export class RestartBackOff {
  readonly #options: RestartBackOffOptions;
  #startsInARow = 0;
  /** Undefined while it does not serve. */
  #servesSinceMs: number | undefined;
  #failsSinceMs: number | undefined;

  constructor(options: RestartBackOffOptions = defaultRestartBackOff) {
    this.#options = options;
  }

  /** Starts since it last served for long. */
  get startsInARow(): number {
    return this.#startsInARow;
  }

  serves(nowMs: number): void {
    this.#servesSinceMs = nowMs;
    this.#failsSinceMs = undefined;
  }

  /** It has died, or could not be started: how long to wait; undefined when there is no use in it. */
  nextDelayMs(nowMs: number): number | undefined {
    const { delaysMs, steadyMs, giveUpMs } = this.#options;
    if (this.#servesSinceMs === undefined) {
      this.#failsSinceMs ??= nowMs;
      if (nowMs - this.#failsSinceMs >= giveUpMs) return undefined;
    } else if (nowMs - this.#servesSinceMs >= steadyMs) {
      this.#startsInARow = 0;
    }
    this.#servesSinceMs = undefined;
    const last = delaysMs.length - 1;
    const delayMs = delaysMs[Math.min(this.#startsInARow, last)];
    this.#startsInARow += 1;
    return delayMs;
  }
}
