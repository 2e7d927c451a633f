import { randomBytes } from "node:crypto";
import type { Mount } from "#core/mount/mount.ts";
import { isReadOnly } from "#core/mount/options.ts";
import type { UnpackTarget } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { isAlreadyExists, isNotFound, wrap } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { Labels } from "#pkg/label.ts";

const inheritedPrefix = "containerd.io/snapshot/";
const refLabel = "containerd.io/snapshot.ref";
const diffIdLabel = `${inheritedPrefix}diff-id`;
const parentLabel = `${inheritedPrefix}parent-chain-id`;
/** An image must not choose which host ids own its files. */
const notInherited = new Set([`${inheritedPrefix}uidmapping`, `${inheritedPrefix}gidmapping`]);

const triesMax = 3;
const removeTimeoutMs = 10_000;

export interface LayerPlan {
  readonly layer: ImageDescriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  readonly parentChainId: Digest | undefined;
}

/** A snapshot that takes a layer's files, until it is committed or disposed; disposed, it is removed. */
export class LayerSnapshot implements AsyncDisposable {
  readonly mounts: readonly Mount[];
  readonly #ctx: Context;
  readonly #target: UnpackTarget;
  readonly #plan: LayerPlan;
  readonly #key: string;
  readonly #labels: Labels;
  #isOpen = true;

  private constructor(
    ctx: Context,
    target: UnpackTarget,
    plan: LayerPlan,
    given: { readonly key: string; readonly labels: Labels; readonly mounts: readonly Mount[] },
  ) {
    this.#ctx = ctx;
    this.#target = target;
    this.#plan = plan;
    this.#key = given.key;
    this.#labels = given.labels;
    this.mounts = given.mounts;
  }

  /** The snapshotter had the layer's files at hand: there is nothing to fetch or to unpack, only to commit. */
  get isStaged(): boolean {
    const last = this.mounts.at(-1);
    return last !== undefined && isReadOnly(last);
  }

  /**
   * Undefined where the chain exists: the snapshotter says so by `already-exists`, and a remote one may have made it
   * in that moment. Without `onParent` the parent is left to the commit.
   */
  static async prepare(
    ctx: Context,
    target: UnpackTarget,
    plan: LayerPlan,
    { onParent }: { readonly onParent: boolean },
  ): Promise<LayerSnapshot | undefined> {
    const labels = snapshotLabels(plan);
    const parent = onParent ? (plan.parentChainId ?? "") : "";
    let failure: unknown;
    for (let tries = 0; tries < triesMax; tries++) {
      const unique = `${Date.now() % 1e9}-${randomBytes(3).toString("base64url")}`;
      const key = `extract-${unique} ${plan.chainId}`;
      try {
        const mounts = await target.snapshotter.prepare(ctx, key, parent, { labels });
        return new LayerSnapshot(ctx, target, plan, { key, labels, mounts });
      } catch (error) {
        failure = error;
        if (!isAlreadyExists(error)) {
          throw wrap(`failed to prepare extraction snapshot ${JSON.stringify(key)}`, error);
        }
      }
      if (await exists(ctx, target, plan.chainId)) return undefined;
      ctx.logger.debug("extraction snapshot exists, its chain does not", { key });
    }
    throw wrap("unable to prepare extraction snapshot", failure);
  }

  /** What several hold goes to the disk at once, and their commits do not wait for it again. */
  static async flush(ctx: Context, snapshots: readonly LayerSnapshot[]): Promise<void> {
    const [first] = snapshots;
    const keys = snapshots.map((snapshot) => snapshot.#key);
    if (first) await first.#target.snapshotter.flush?.(ctx, keys);
  }

  /** Under the chain's name; one that somebody else made meanwhile is as good. */
  async commit({ withParent }: { readonly withParent: boolean }): Promise<void> {
    const { snapshotter } = this.#target;
    const parent = withParent ? this.#plan.parentChainId : undefined;
    try {
      const options = { labels: this.#labels, ...(parent !== undefined && { parent }) };
      await snapshotter.commit(this.#ctx, this.#plan.chainId, this.#key, options);
      this.#isOpen = false;
    } catch (error) {
      if (!isAlreadyExists(error)) throw wrap(`failed to commit snapshot ${this.#key}`, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const ctx = this.#ctx.detached({ timeoutMs: removeTimeoutMs });
    try {
      await this.#target.snapshotter.remove(ctx, this.#key);
    } catch (error) {
      // Its lease lets it go to the next collection.
      ctx.logger.error("failed to clean up a snapshot", { key: this.#key, error });
    }
  }
}

async function exists(ctx: Context, target: UnpackTarget, chainId: Digest): Promise<boolean> {
  try {
    await target.snapshotter.stat(ctx, chainId);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw wrap(`failed to stat snapshot ${chainId}`, error);
  }
}

/** A layer's annotations reach the snapshotter where they are meant for one; the image decides no more than that. */
export function snapshotLabels({ layer, diffId, chainId, parentChainId }: LayerPlan): Labels {
  const inherited = Object.entries(layer.annotations).filter(
    ([key]) => key.startsWith(inheritedPrefix) && !notInherited.has(key),
  );
  return {
    ...Object.fromEntries(inherited),
    [refLabel]: chainId,
    [diffIdLabel]: diffId,
    ...(parentChainId !== undefined && { [parentLabel]: parentChainId }),
  };
}
