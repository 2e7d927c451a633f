import type { ArrivingBlob } from "#core/diff/diff.ts";
import type { Limiter } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";

/** A layer that has not grown for so long waits for the network, not for the processor. */
const stallMs = 250;

/**
 * A place of the limiter for unpacking a layer. One whose layer stalls is given back for good, so that a slow registry
 * holds up its own images only.
 */
export async function takePlace(
  ctx: Context,
  limiter: Limiter,
  arriving: ArrivingBlob | undefined,
): Promise<Disposable> {
  using stack = new DisposableStack();
  const place = stack.use(await limiter.acquire(ctx));
  if (arriving) {
    const { file } = arriving;
    const timer = setTimeout(() => {
      if (file.growth.end === undefined) place[Symbol.dispose]();
    }, stallMs);
    stack.defer(() => clearTimeout(timer));
    stack.use(file.watch(() => void timer.refresh()));
  }
  return stack.move();
}
