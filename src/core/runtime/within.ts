import type { Context } from "#pkg/context.ts";

/**
 * Waits for a promise as long as the context lasts, then throws `canceled` or `deadline-exceeded`.
 *
 * The work behind the promise goes on: this is for work that others wait for too.
 */
export async function within<T>(ctx: Context, promise: Promise<T>): Promise<T> {
  ctx.throwIfEnded();
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => {
    try {
      ctx.throwIfEnded();
    } catch (error) {
      reject(error);
    }
  };
  ctx.signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, ended]);
  } finally {
    ctx.signal.removeEventListener("abort", onAbort);
  }
}
