import type { FetchBlob } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { TaskGroup } from "#pkg/task-group.ts";
import { settledOrAborted } from "#pkg/until.ts";

/**
 * The layers of one image on their way. Nothing is fetched before a layer is asked for: then it and all that come
 * after it are, so that layers whose snapshots exist below it stay where they are. Disposing ends what is under way.
 */
export class LayerFetches implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #layers: readonly ImageDescriptor[];
  readonly #fetch: FetchBlob;
  readonly #group: TaskGroup;
  readonly #done: readonly PromiseWithResolvers<void>[];
  #isStarted = false;

  constructor(ctx: Context, layers: readonly ImageDescriptor[], fetch: FetchBlob) {
    this.#ctx = ctx;
    this.#layers = layers;
    this.#fetch = fetch;
    this.#group = new TaskGroup(ctx.signal);
    this.#done = layers.map(() => Promise.withResolvers<void>());
    for (const { promise } of this.#done) promise.catch(() => {}); // not every layer is waited for
  }

  start(from: number): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    for (const [i, layer] of this.#layers.entries()) {
      if (i < from) continue;
      this.#group.go(async (signal) => {
        try {
          await this.#fetch(this.#ctx.withSignal(signal), layer);
          this.#done[i]?.resolve();
        } catch (error) {
          for (const { reject } of this.#done) reject(error);
          throw error;
        }
      });
    }
  }

  /** Resolves when the layer is there; rejects with whatever failed first, of this layer or another. */
  async wait(ctx: Context, index: number): Promise<void> {
    this.start(index);
    const done = this.#done[index];
    if (done) await settledOrAborted(done.promise, ctx);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#group[Symbol.asyncDispose]();
  }
}
