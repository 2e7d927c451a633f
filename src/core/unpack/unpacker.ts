import type { ContentStore } from "#core/content/content.ts";
import { readConfig } from "#core/images/manifest.ts";
import { ReferenceCount, type Visit } from "#core/images/walk.ts";
import { withImageInfo } from "#core/unpack/image-info.ts";
import type { FetchBlob, Limiter, UnpackProgress, UnpackTarget } from "#core/unpack/unpack.ts";
import { countMismatch, unpackImage } from "#core/unpack/unpack-image.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { isConfig, isLayer, isManifest } from "#pkg/media-types.ts";
import { formatPlatform, normalizePlatform } from "#pkg/platform.ts";
import { TaskGroup } from "#pkg/task-group.ts";

export interface UnpackerOptions {
  readonly content: ContentStore;
  /** The first that takes an image's configuration and platform unpacks it. */
  readonly targets: readonly UnpackTarget[];
  /** Under which it is pulled; undefined for what comes from elsewhere. */
  readonly imageName?: string | undefined;
  readonly locks: KeyedMutex;
  readonly limiter?: Limiter | undefined;
  readonly fetch: FetchBlob;
  readonly progress?: UnpackProgress | undefined;
}

/**
 * Unpacks the images that a walk comes by, beside the walk.
 *
 * The walk visits no layers any more: they are fetched when the unpacking of their image needs them, or where no target
 * takes the image, just fetched. Disposing ends what is under way and waits for it.
 */
export class Unpacker implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #options: UnpackerOptions;
  readonly #group: TaskGroup;
  /** Of layers: the walk, which sees none of them, does not count them. */
  readonly #references = new ReferenceCount();
  /** Layers of manifests whose configuration was not visited yet, by its digest: several manifests may share one. */
  readonly #waiting = new Map<Digest, (readonly ImageDescriptor[])[]>();
  /** Layers of configurations that are being unpacked; undefined once they are fetched whatever snapshots exist. */
  readonly #unpacked = new Map<Digest, readonly ImageDescriptor[] | undefined>();

  constructor(ctx: Context, options: UnpackerOptions) {
    this.#ctx = ctx;
    this.#options = options;
    this.#group = new TaskGroup(ctx.signal);
  }

  wrap(visit: Visit): Visit {
    return async (ctx, descriptor) => {
      const children = await visit(ctx, descriptor);
      if (isManifest(descriptor.mediaType)) {
        return this.#withoutLayers(this.#described(descriptor, children));
      }
      if (this.#isConfig(descriptor)) this.#start(descriptor);
      return children;
    };
  }

  /** Resolves when all that was started is done. */
  wait(): Promise<void> {
    return this.#group.wait();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#group[Symbol.asyncDispose]();
  }

  #described(
    manifest: ImageDescriptor,
    parts: readonly ImageDescriptor[],
  ): readonly ImageDescriptor[] {
    const { imageName, targets } = this.#options;
    const isWanted = imageName !== undefined && targets.some((target) => target.wantsImageInfo);
    return isWanted ? withImageInfo(imageName, manifest, parts) : parts;
  }

  #withoutLayers(children: readonly ImageDescriptor[]): readonly ImageDescriptor[] {
    const layers = children.filter((child) => this.#isLayer(child));
    const others = children.filter((child) => !this.#isLayer(child));
    if (layers.length === 0) return others;
    this.#references.admit(layers);
    for (const config of others.filter((child) => this.#isConfig(child))) {
      const waiting = this.#waiting.get(config.digest) ?? [];
      this.#waiting.set(config.digest, [...waiting, layers]);
    }
    return others;
  }

  #isConfig({ mediaType }: ImageDescriptor): boolean {
    return (
      isConfig(mediaType) || this.#options.targets.some((target) => target.configType === mediaType)
    );
  }

  #isLayer({ mediaType }: ImageDescriptor): boolean {
    return (
      isLayer(mediaType) ||
      this.#options.targets.some((target) => target.layerTypes.includes(mediaType))
    );
  }

  /** Manifests that share a configuration make one chain; the layers of the others are only fetched. */
  #start(config: ImageDescriptor): void {
    const waiting = this.#waiting.get(config.digest) ?? [];
    this.#waiting.delete(config.digest);
    let rest = waiting;
    if (!this.#unpacked.has(config.digest)) {
      const [first, ...others] = waiting;
      if (!first) return;
      rest = others;
      this.#unpacked.set(config.digest, first);
      this.#group.go((signal) => this.#unpack(this.#ctx.withSignal(signal), config, first));
    }
    const unpacked = this.#unpacked.get(config.digest);
    if (rest.length > 0 && unpacked) {
      // Unpacking may leave out layers whose snapshots exist; once there are several manifests, none may lack its own.
      rest = [...rest, unpacked];
      this.#unpacked.set(config.digest, undefined);
    }
    for (const layers of rest) {
      this.#group.go((signal) => this.#fetchAll(this.#ctx.withSignal(signal), layers));
    }
  }

  async #unpack(
    ctx: Context,
    config: ImageDescriptor,
    layers: readonly ImageDescriptor[],
  ): Promise<void> {
    const { content, targets, locks, limiter, fetch, progress } = this.#options;
    const { platform, rootfs } = await readConfig(ctx, content, config);
    const { diffIds } = rootfs;
    if (layers.length !== diffIds.length) throw countMismatch(layers, diffIds);
    const normalized = normalizePlatform(platform);
    const target = targets.find((one) => {
      if (one.configType !== "" && one.configType !== config.mediaType) return false;
      const isImage = one.configType === "" || isConfig(one.configType);
      if (isImage && rootfs.type !== "" && rootfs.type !== "layers") return false;
      return one.matches(normalized);
    });
    if (!target) {
      const shown = formatPlatform(normalized);
      ctx.logger.debug("nothing unpacks this platform", { config: config.digest, platform: shown });
      await this.#fetchAll(ctx, layers);
      return;
    }
    const job = { content, target, config, layers, diffIds, locks, limiter, fetch, progress };
    await unpackImage(ctx, job);
  }

  async #fetchAll(ctx: Context, layers: readonly ImageDescriptor[]): Promise<void> {
    await using group = new TaskGroup(ctx.signal);
    for (const layer of layers) {
      group.go((signal) => this.#options.fetch(ctx.withSignal(signal), layer));
    }
    await group.wait();
  }
}
