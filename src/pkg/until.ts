import type { Context } from "#pkg/context.ts";

/** Waits for work that is not the caller's own: rejects when `ctx` ends first, and the work goes on. */
export async function settledOrAborted<T>(work: Promise<T>, ctx: Context): Promise<T> {
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
    return await Promise.race([work, ended]);
  } finally {
    ctx.signal.removeEventListener("abort", onAbort);
  }
}
