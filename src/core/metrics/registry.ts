import type { Context } from "#pkg/context.ts";
import type { MetricFamily, MetricSource } from "./metrics.ts";
import { formatMetrics } from "./text.ts";

/**
 * What the daemon has to tell of itself, put together at each scrape.
 *
 * A source that fails is logged and left out; the others are told all the same.
 */
export class MetricRegistry {
  readonly #sources = new Set<MetricSource>();
  #running: Promise<string> | undefined;

  /** Asked from now on, until disposed. */
  register(source: MetricSource): Disposable {
    this.#sources.add(source);
    return {
      [Symbol.dispose]: () => {
        this.#sources.delete(source);
      },
    };
  }

  /** In the text format. Those who ask at the same time share one answer. */
  render(ctx: Context): Promise<string> {
    this.#running ??= this.#render(ctx).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #render(ctx: Context): Promise<string> {
    const collected = await Promise.all(
      [...this.#sources].map((source) => collectFrom(ctx, source)),
    );
    return formatMetrics(collected.flat());
  }
}

async function collectFrom(ctx: Context, source: MetricSource): Promise<readonly MetricFamily[]> {
  try {
    return await source.collect(ctx);
  } catch (error) {
    ctx.logger.error("failed to collect metrics", { error });
    return [];
  }
}
