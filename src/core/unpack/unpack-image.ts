import type { ContentStore } from "#core/content/content.ts";
import { uncompressedLabel } from "#core/images/annotations.ts";
import type { ArrivingBlob } from "#core/diff/diff.ts";
import type { Mount } from "#core/mount/mount.ts";
import { chainIds } from "#core/unpack/chain-id.ts";
import { LayerFetches } from "#core/unpack/layer-fetches.ts";
import { type LayerPlan, LayerSnapshot } from "#core/unpack/layer-snapshot.ts";
import { takePlace } from "#core/unpack/unpack-place.ts";
import type { FetchBlob, Limiter, UnpackProgress, UnpackTarget } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { CodedError, failedPrecondition, wrap } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { TaskGroup } from "#pkg/task-group.ts";

export interface UnpackJob {
  readonly content: ContentStore;
  readonly target: UnpackTarget;
  readonly config: ImageDescriptor;
  readonly layers: readonly ImageDescriptor[];
  readonly diffIds: readonly Digest[];
  /** Shared by all who unpack: one chain is unpacked by one of them, the others find it done. */
  readonly locks: KeyedMutex;
  /** How many layers are unpacked at once, of all images; undefined: one after the other. */
  readonly limiter: Limiter | undefined;
  readonly fetch: FetchBlob;
  readonly progress: UnpackProgress | undefined;
}

/**
 * Makes a chain of snapshots of an image's layers, each unpacked as soon as it is there, and ties the last one to the
 * configuration. A layer whose snapshot exists is neither fetched nor unpacked.
 *
 * With a limiter, and a snapshotter that can rebase, layers are unpacked beside each other and committed in order.
 */
export async function unpackImage(ctx: Context, job: UnpackJob): Promise<void> {
  const { target, layers, diffIds } = job;
  const chain = chainIds(diffIds);
  const plans = layers.map((layer, i): LayerPlan => {
    const [diffId, chainId] = [diffIds[i], chain[i]];
    if (diffId === undefined || chainId === undefined) throw countMismatch(layers, diffIds);
    return { layer, diffId, chainId, parentChainId: chain[i - 1] };
  });
  await using fetches = new LayerFetches(ctx, layers, job.fetch);
  if (job.limiter && target.capabilities.has("rebase")) {
    await unpackTogether(ctx, job, plans, fetches, job.limiter);
  } else {
    await unpackInOrder(ctx, job, plans, fetches);
  }
  const label = `containerd.io/gc.ref.snapshot.${target.snapshotterName}`;
  const labels = { [label]: chain.at(-1) ?? "" };
  await job.content.update(ctx, { digest: job.config.digest, labels }, [`labels.${label}`]);
}

export function countMismatch(layers: readonly unknown[], diffIds: readonly unknown[]): CodedError {
  const counts = `${layers.length} != ${diffIds.length}`;
  return new CodedError("invalid-argument", `number of layers and diffIDs don't match: ${counts}`);
}

async function unpackInOrder(
  ctx: Context,
  job: UnpackJob,
  plans: readonly LayerPlan[],
  fetches: LayerFetches,
): Promise<void> {
  for (const [i, plan] of plans.entries()) {
    using _chain = await lockChain(ctx, job, plan);
    await using snapshot = await LayerSnapshot.prepare(ctx, job.target, plan, { onParent: true });
    if (!snapshot) {
      job.progress?.(plan.layer, "exists");
      continue;
    }
    if (!snapshot.isStaged) {
      fetches.startFrom(i);
      const arriving = await fetches.arriving(ctx, i);
      await apply(ctx, job, { plan, index: i, fetches, arriving, mounts: snapshot.mounts });
    }
    await snapshot.commit({ withParent: false });
    if (!snapshot.isStaged) await labelUncompressed(ctx, job, plan);
  }
}

/** A layer that is being unpacked beside others, until its turn to be committed. */
interface Started {
  readonly plan: LayerPlan;
  readonly lock: Disposable;
  readonly snapshot: LayerSnapshot;
  readonly applied: Promise<void>;
  state: "unpacking" | "unpacked" | "flushed";
}

async function unpackTogether(
  ctx: Context,
  job: UnpackJob,
  plans: readonly LayerPlan[],
  fetches: LayerFetches,
  limiter: Limiter,
): Promise<void> {
  // Chains are locked parents first by everybody, and a place of the limiter is not held for long while a layer waits.
  await using held = new AsyncDisposableStack();
  await using group = new TaskGroup(ctx.signal);
  const started: Started[] = [];
  for (const [i, plan] of plans.entries()) {
    const lock = held.use(await lockChain(ctx, job, plan));
    const snapshot = await LayerSnapshot.prepare(ctx, job.target, plan, { onParent: false });
    if (!snapshot) {
      lock[Symbol.dispose]();
      job.progress?.(plan.layer, "exists");
      continue;
    }
    held.use(snapshot);
    const applied = Promise.withResolvers<void>();
    const layer: Started = { plan, lock, snapshot, applied: applied.promise, state: "unpacking" };
    applied.promise.catch(() => {}); // an earlier layer's failure is the one that counts
    group.go(async (signal) => {
      const scoped = ctx.withSignal(signal);
      try {
        if (!snapshot.isStaged) {
          fetches.start(i);
          const arriving = await fetches.arriving(scoped, i);
          using _place = await takePlace(scoped, limiter, arriving);
          const mounts = asOverlay(job, plan, snapshot.mounts);
          await apply(scoped, job, { plan, index: i, fetches, arriving, mounts });
        }
        layer.state = snapshot.isStaged ? "flushed" : "unpacked";
        applied.resolve();
      } catch (error) {
        applied.reject(error);
        throw error;
      }
    });
    started.push(layer);
  }
  for (const layer of started) {
    const { plan, lock, snapshot } = layer;
    await layer.applied.catch(async () => group.wait());
    if (layer.state === "unpacked") await flushUnpacked(ctx, started);
    await snapshot.commit({ withParent: true });
    // Another image with the same beginning goes on from here, not from the end of this one.
    lock[Symbol.dispose]();
    if (!snapshot.isStaged) await labelUncompressed(ctx, job, plan);
  }
  await group.wait();
}

/** Whatever is complete by now: an image whose layers come at once waits for the disk once. */
async function flushUnpacked(ctx: Context, started: readonly Started[]): Promise<void> {
  const layers = started.filter(({ state }) => state === "unpacked");
  await LayerSnapshot.flush(
    ctx,
    layers.map(({ snapshot }) => snapshot),
  );
  for (const layer of layers) layer.state = "flushed";
}

/** A bind mount would take whiteouts for removals; what they hide is only known when the parent is. */
function asOverlay(job: UnpackJob, plan: LayerPlan, mounts: readonly Mount[]): readonly Mount[] {
  const [only, ...others] = mounts;
  const isBind = only?.type === "bind" && others.length === 0;
  if (!isBind || plan.parentChainId === undefined || job.target.snapshotterName !== "overlayfs") {
    return mounts;
  }
  const options = only.options.filter((option) => option !== "rbind");
  return [
    {
      ...only,
      type: "overlay",
      source: "overlay",
      options: [...options, `upperdir=${only.source}`],
    },
  ];
}

function lockChain(ctx: Context, job: UnpackJob, { chainId }: LayerPlan): Promise<Disposable> {
  return job.locks.acquire(`sn://${job.target.snapshotterName}/${chainId}`, ctx.signal);
}

interface Application {
  readonly plan: LayerPlan;
  readonly index: number;
  readonly fetches: LayerFetches;
  /** Undefined: the layer is in the content store. */
  readonly arriving: ArrivingBlob | undefined;
  readonly mounts: readonly Mount[];
}

/** Unpacks a layer, which need not be whole yet; resolves when it is, with what the image says of it checked. */
async function apply(
  ctx: Context,
  job: UnpackJob,
  { plan: { layer, diffId }, index, fetches, arriving, mounts }: Application,
): Promise<void> {
  const { applier, snapshotterName } = job.target;
  const whole = fetches.stored(ctx, index);
  // A layer that still comes in is told of as such.
  const told = whole.then(() => job.progress?.(layer, "extracting"));
  told.catch(() => {}); // the failure of `whole` is awaited below
  let found: Digest;
  try {
    found = (await applier.apply(ctx, layer, mounts, { arriving })).digest;
  } catch (error) {
    // When the bytes were not the layer's, the fetch says so, once it has all of them.
    await whole;
    const what = `${layer.mediaType} ${layer.digest}`;
    throw wrap(`failed to extract layer (${what}) to ${snapshotterName}`, error);
  } finally {
    await fetches.release(index);
  }
  await told;
  if (found !== diffId) {
    throw failedPrecondition(
      `wrong diff id ${JSON.stringify(found)} calculated on extraction ${JSON.stringify(diffId)}, desc ${layer.digest}`,
    );
  }
  job.progress?.(layer, "extracted");
}

/** Only what was unpacked here is known to hold what the configuration says. */
async function labelUncompressed(
  ctx: Context,
  { content }: UnpackJob,
  { layer, diffId }: LayerPlan,
): Promise<void> {
  const labels = { [uncompressedLabel]: diffId };
  await content.update(ctx, { digest: layer.digest, labels }, [`labels.${uncompressedLabel}`]);
}
