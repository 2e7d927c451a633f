import type { ContentStore } from "#core/content/content.ts";
import type { ImageVerifier } from "#core/images/image-verifier.ts";
import type { ImageStore } from "#core/images/images.ts";
import type { LeaseManager } from "#core/leases/leases.ts";
import type { Resolver } from "#core/remotes/remotes.ts";
import type { RegistryObject, UnpackRequest } from "#core/transfer/transfer.ts";
import type { Limiter, UnpackTarget } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { formatRfc3339, nowNanos } from "#pkg/time.ts";

/** What transfers inside the daemon work with. */
export interface LocalParts {
  readonly content: ContentStore;
  readonly images: ImageStore;
  readonly leases: LeaseManager;
  readonly unpackTargets: readonly UnpackTarget[];
  /** The snapshotter preferred where a request names none. */
  readonly defaultSnapshotter: string;
  /** One blob is fetched, one chain unpacked, once however many ask. */
  readonly locks: KeyedMutex;
  /** Undefined: layers of an image are unpacked one after the other. */
  readonly unpackLimiter: Limiter | undefined;
  /** How many pieces of content are pushed at once, by all pushes. */
  readonly uploadLimiter: Limiter;
  /** Who is asked before an image is pulled, by name; one that objects is enough. */
  readonly verifiers: ReadonlyMap<string, ImageVerifier>;
  /** Types of what is pulled along with the manifests it refers to; none: every type. Undefined: nothing is. */
  readonly referrers: readonly string[] | undefined;
  /** Throws `invalid-argument` for what it cannot make sense of. */
  readonly openResolver: (registry: RegistryObject) => Resolver;
}

const leaseLifeNanos = 24n * 3_600_000_000_000n;
const leaseDropTimeoutMs = 10_000;

/**
 * Runs under the caller's lease, or one of its own that outlives nothing but a crash. By its labels
 * the next daemon can know it.
 */
export async function withLease<T>(
  ctx: Context,
  leases: LeaseManager,
  run: (ctx: Context) => Promise<T>,
  { labels = {} }: { readonly labels?: Labels } = {},
): Promise<T> {
  if (ctx.lease !== undefined) return run(ctx);
  const expire = formatRfc3339(nowNanos() + leaseLifeNanos);
  const lease = await leases.create(ctx, {
    id: "",
    labels: { ...labels, "containerd.io/gc.expire": expire },
  });
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    const detached = ctx.detached({ timeoutMs: leaseDropTimeoutMs });
    await leases.delete(detached, lease.id).catch((error: unknown) => {
      ctx.logger.warn("failed to delete a lease", { lease: lease.id, error });
    });
  });
  return await run(ctx.withLease(lease.id));
}

/** The configured target for a request: the snapshotter it names, or else the default one, or else the first. */
export function findUnpackTarget(
  { unpackTargets, defaultSnapshotter }: LocalParts,
  { platform, snapshotter }: UnpackRequest,
): UnpackTarget | undefined {
  const matching = unpackTargets.filter((target) => target.matches(platform));
  if (snapshotter !== "") {
    return matching.find((target) => target.snapshotterName === snapshotter);
  }
  return matching.find((target) => target.snapshotterName === defaultSnapshotter) ?? matching[0];
}
