import type { ArrivingBlob } from "#core/diff/diff.ts";
import type { FetchBlob } from "#core/unpack/unpack.ts";
import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { Context } from "#pkg/context.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { TaskGroup } from "#pkg/task-group.ts";
import { settledOrAborted } from "#pkg/until.ts";

interface Fetch {
  isStarted: boolean;
  /** Of what is still coming; resolves to nothing where the blob is stored before its first bytes could be told of. */
  readonly arrived: PromiseWithResolvers<GrowingFile | undefined>;
  readonly stored: PromiseWithResolvers<void>;
}

/**
 * The layers of one image on their way. None is fetched before it is asked for, so that layers whose snapshots exist
 * stay where they are. The first failure is that of all. Disposing ends what is under way.
 */
export class LayerFetches implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #layers: readonly ImageDescriptor[];
  readonly #fetch: FetchBlob;
  readonly #group: TaskGroup;
  readonly #fetches: readonly Fetch[];
  readonly #files = new Map<number, GrowingFile>();

  constructor(ctx: Context, layers: readonly ImageDescriptor[], fetch: FetchBlob) {
    this.#ctx = ctx;
    this.#layers = layers;
    this.#fetch = fetch;
    this.#group = new TaskGroup(ctx.signal);
    this.#fetches = layers.map(() => ({
      isStarted: false,
      arrived: Promise.withResolvers(),
      stored: Promise.withResolvers(),
    }));
    for (const { arrived, stored } of this.#fetches) {
      // Not every layer is waited for.
      for (const { promise } of [arrived, stored]) promise.catch(() => {});
    }
  }

  start(index: number): void {
    const [layer, fetch] = [this.#layers[index], this.#fetches[index]];
    if (!layer || !fetch || fetch.isStarted) return;
    fetch.isStarted = true;
    this.#group.go(async (signal) => {
      try {
        await this.#fetch(this.#ctx.withSignal(signal), layer, (file) => {
          this.#files.set(index, file);
          fetch.arrived.resolve(file);
        });
        fetch.stored.resolve();
        fetch.arrived.resolve(undefined);
      } catch (error) {
        for (const { arrived, stored } of this.#fetches) {
          stored.reject(error);
          arrived.reject(error);
        }
        throw error;
      }
    });
  }

  /** All from this layer on: an image's layers are fetched beside each other, whatever order they are unpacked in. */
  startFrom(index: number): void {
    for (let i = index; i < this.#layers.length; i++) this.start(i);
  }

  /**
   * Resolves as soon as the layer can be unpacked: to a file to read along, good until it is released, or to nothing
   * where the layer is stored. Rejects with whatever failed first, of this layer or another.
   */
  async arriving(ctx: Context, index: number): Promise<ArrivingBlob | undefined> {
    const fetch = this.#fetches[index];
    const file = fetch && (await settledOrAborted(fetch.arrived.promise, ctx));
    return file && { file, stored: fetch.stored.promise };
  }

  /** Resolves when the layer is in the content store; rejects as `arriving`. */
  async stored(ctx: Context, index: number): Promise<void> {
    const fetch = this.#fetches[index];
    if (fetch) await settledOrAborted(fetch.stored.promise, ctx);
  }

  /** Nobody reads along any more. */
  async release(index: number): Promise<void> {
    const file = this.#files.get(index);
    this.#files.delete(index);
    await file?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#group[Symbol.asyncDispose]();
    for (const index of this.#files.keys()) await this.release(index);
  }
}
