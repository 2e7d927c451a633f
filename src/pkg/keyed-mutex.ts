/**
 * One lock per key, first come first served.
 *
 * `using lock = await mutex.acquire(key, signal)`: the scope's end releases. A waiter whose signal aborts leaves the
 * queue and rejects with the signal's reason. Hold no lock across an RPC.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async acquire(key: string, signal?: AbortSignal): Promise<Disposable> {
    const before = this.#tails.get(key);
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const tail = before ? before.then(() => held) : held;
    this.#tails.set(key, tail);
    // The entry goes when everyone before has released too: a waiter that gave up must not open the way to the next.
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    const lock = { [Symbol.dispose]: release };
    if (before) {
      try {
        await unlessAborted(before, signal);
      } catch (error) {
        release();
        throw error;
      }
    }
    return lock;
  }

  isHeld(key: string): boolean {
    return this.#tails.has(key);
  }
}

async function unlessAborted(promise: Promise<void>, signal?: AbortSignal): Promise<void> {
  if (!signal) return promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
