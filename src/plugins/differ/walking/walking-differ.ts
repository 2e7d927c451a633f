import type { ContentReader, ContentStore } from "#core/content/content.ts";
import type { ApplyOptions, CompareOptions, Differ } from "#core/diff/diff.ts";
import { payloadsFor } from "#core/diff/encrypted-layer.ts";
import { layerMediaType } from "#core/diff/media-type.ts";
import { ProcessorChain, type ProcessorHost } from "#core/diff/processor-chain.ts";
import {
  type ProcessorStep,
  type StreamProcessor,
  stepsToLayer,
} from "#core/diff/stream-processors.ts";
import { withActivated } from "#core/mount/activated.ts";
import type { MountManager } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Mounter } from "#core/mount/mounter.ts";
import { isReadOnly, overlayLowers, overlayUpper, withoutMappings } from "#core/mount/options.ts";
import { keepOpenQuestions } from "#core/snapshots/open-questions.ts";
import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { ExtractOptions } from "#pkg/archive/layer-extractor.ts";
import type { AppliedLayer } from "#pkg/archive/tree-job.ts";
import type { JobStreams } from "#pkg/archive/tree-streams.ts";
import type { Pace, TreeWorkers } from "#pkg/archive/tree-workers.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { failedPrecondition, invalidArgument, wrap } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";
import { compareMounts } from "#plugins/differ/walking/compare.ts";

export interface WalkingDifferOptions {
  readonly content: ContentStore;
  readonly mounter: Mounter;
  /** For mounts that the kernel alone cannot make. */
  readonly mounts?: MountManager | undefined;
  readonly workers: TreeWorkers;
  /** Root of a user namespace makes no devices, and so no whiteouts by hand. */
  readonly inUserNamespace: boolean;
  /** For blobs of other media types than layers have. */
  readonly processors?: {
    readonly all: readonly StreamProcessor[];
    readonly host: ProcessorHost;
  };
}

/** How long writing back a layer may take: a disk slower than this is taken for dead. */
const syncTimeoutMs = 10 * 60_000;

/**
 * So many layers are read along while they come in, fewer than there are workers: however many stall, some workers are
 * left for those that are there.
 */
const alongMax = 4;

/** From so many bytes on, compressed, a layer is worth a worker of its own. */
const longBytes = 4 << 20;

/** Where a layer goes, and how it hides what is below it. */
type Target = ExtractOptions & { readonly root: string };

/** What a worker unpacks: a whole file, one that still grows, or bytes. */
interface LayerSource extends AsyncDisposable {
  readonly file: string | number | undefined;
  readonly streams: JobStreams;
  readonly pace: Pace;
}

/** Unpacks layers by writing their files, and makes layers by comparing two trees. */
export class WalkingDiffer implements Differ {
  readonly #content: ContentStore;
  readonly #mounter: Mounter;
  readonly #mounts: MountManager | undefined;
  readonly #workers: TreeWorkers;
  readonly #inUserNamespace: boolean;
  readonly #processors: WalkingDifferOptions["processors"];
  #alongCount = 0;

  constructor(options: WalkingDifferOptions) {
    const { content, mounter, mounts, workers, inUserNamespace, processors } = options;
    this.#processors = processors;
    this.#content = content;
    this.#mounter = mounter;
    this.#mounts = mounts;
    this.#workers = workers;
    this.#inUserNamespace = inUserNamespace;
  }

  async apply(
    ctx: Context,
    layer: Descriptor,
    mounts: readonly Mount[],
    options: ApplyOptions = {},
  ): Promise<Descriptor> {
    const steps = stepsToLayer(this.#processors?.all ?? [], layer.mediaType);
    if (mounts.length === 0) throw invalidArgument("mounts are missing");
    // Those before may be what it stands on.
    refuseReadOnly(mounts.slice(-1));
    await using source = await this.#sourceOf(ctx, layer, steps, options);
    const from = { manager: this.#mounts, what: "fs-diffapply" };
    const applied = await withActivated(ctx, from, mounts, (left) => {
      return this.#apply(ctx, source, left, options);
    });
    for (const warning of applied.warnings) ctx.logger.warn(warning, { layer: layer.digest });
    const { diffId: digest, sizeBytes } = applied;
    return { mediaType: layerMediaType, digest, sizeBytes, annotations: {} };
  }

  compare(
    ctx: Context,
    lower: readonly Mount[],
    upper: readonly Mount[],
    options: CompareOptions = {},
  ): Promise<Descriptor> {
    const parts = { content: this.#content, mounter: this.#mounter, workers: this.#workers };
    const from = { manager: this.#mounts, what: "fs-diffcompare" };
    return withActivated(ctx, from, lower, (lowerLeft) =>
      withActivated(ctx, from, upper, (upperLeft) =>
        compareMounts(parts, ctx, lowerLeft, upperLeft, options),
      ),
    );
  }

  #apply(
    ctx: Context,
    source: LayerSource,
    mounts: readonly Mount[],
    { syncFs }: ApplyOptions,
  ): Promise<AppliedLayer> {
    refuseReadOnly(mounts);
    return this.#withTarget(ctx, mounts, async (target) => {
      const result = await this.#unpack(ctx, source, target);
      const isAlone = target.whiteouts !== "remove" && target.parents.length === 0;
      if (isAlone) await keepOpenQuestions(target.root, result);
      if (syncFs === true) await this.#sync(ctx, target.root);
      return result;
    });
  }

  async #sourceOf(
    ctx: Context,
    layer: Descriptor,
    steps: readonly ProcessorStep[],
    { arriving, payloads = {} }: ApplyOptions,
  ): Promise<LayerSource> {
    const pace = layer.sizeBytes < longBytes ? "brief" : "long";
    // Processors are given whole blobs.
    if (arriving && steps.length === 0 && this.#alongCount < alongMax) {
      return this.#along(arriving.file, pace);
    }
    await using stack = new AsyncDisposableStack();
    if (arriving) await settledOrAborted(arriving.stored, ctx);
    const reader = stack.use(await this.#open(ctx, layer));
    const chain = this.#chain(steps, reader, payloadsFor(steps, layer, payloads));
    if (chain) stack.use(chain);
    const owned = stack.move();
    const streams = chain
      ? { input: chain.output() }
      : { input: reader.path === undefined ? reader.stream() : undefined };
    return {
      file: chain ? undefined : reader.path,
      streams,
      pace,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }

  #along(growing: GrowingFile, pace: Pace): LayerSource {
    this.#alongCount++;
    return {
      file: growing.fd,
      streams: { growing },
      pace,
      [Symbol.asyncDispose]: async () => void this.#alongCount--,
    };
  }

  async #open(ctx: Context, layer: Descriptor): Promise<ContentReader> {
    await using stack = new AsyncDisposableStack();
    const reader = await this.#content.open(ctx, layer.digest).catch((error: unknown) => {
      throw wrap("failed to get reader from content store", error);
    });
    stack.use(reader);
    if (layer.sizeBytes > 0 && reader.sizeBytes !== layer.sizeBytes) {
      const has = `content ${layer.digest} has ${reader.sizeBytes} bytes`;
      throw failedPrecondition(`${has}, its descriptor says ${layer.sizeBytes}`);
    }
    stack.move();
    return reader;
  }

  #chain(
    steps: readonly ProcessorStep[],
    reader: ContentReader,
    payloads: Readonly<Record<string, Any>>,
  ): ProcessorChain | undefined {
    if (!this.#processors || steps.length === 0) return undefined;
    return new ProcessorChain({ host: this.#processors.host, steps, reader, payloads });
  }

  #unpack(
    ctx: Context,
    { file, streams, pace }: LayerSource,
    target: Target,
  ): Promise<AppliedLayer> {
    const { root, ...options } = target;
    return this.#workers.run(ctx, { kind: "apply", root, file, options }, streams, pace);
  }

  async #sync(ctx: Context, path: string): Promise<void> {
    const bounded = ctx.withTimeout(syncTimeoutMs);
    await this.#workers.sync(bounded, path).catch((error: unknown) => {
      throw wrap(`failed to syncfs for ${path}`, error);
    });
  }

  /**
   * Straight into the directory that takes the changes where the mounts say which it is, else
   * through a mount.
   */
  #withTarget<T>(
    ctx: Context,
    mounts: readonly Mount[],
    use: (target: Target) => Promise<T>,
  ): Promise<T> {
    const devices = this.#inUserNamespace ? "skip" : "make";
    const [only, ...others] = mounts;
    if (only && others.length === 0 && only.target === "") {
      const upper = overlayUpper(only.options);
      if (only.type === "overlay" && upper !== undefined && !this.#inUserNamespace) {
        const isUser = only.options.includes("userxattr");
        const whiteouts = isUser ? "overlay-user" : "overlay";
        const parents = overlayLowers(only.options);
        return use({ root: upper, whiteouts, parents, devices });
      }
      if (isPlainBind(only)) {
        return use({ root: only.source, whiteouts: "remove", parents: [], devices });
      }
    }
    return this.#mounter.withTempMount(ctx, mounts, (root) => {
      return use({ root, whiteouts: "remove", parents: [], devices });
    });
  }
}

function refuseReadOnly(mounts: readonly Mount[]): void {
  if (mounts.some(isReadOnly)) throw failedPrecondition("cannot apply to a read-only snapshot");
}

function isPlainBind({ type, options }: Mount): boolean {
  const known = new Set(["rw", "bind", "rbind"]);
  // The tree on the disk has a layer's own ids, whatever the mount makes of them.
  return type === "bind" && withoutMappings(options).every((option) => known.has(option));
}
