import type { Mount } from "#core/mount/mount.ts";
import { isNamePending } from "#core/metadata/snapshot-commit.ts";
import {
  findSnapshot,
  inheritedLabels,
  insertSnapshot,
  requireParent,
} from "#core/metadata/snapshot-rows.ts";
import { backendKey, type MetadataState } from "#core/metadata/state.ts";
import type { SnapshotInfo, Snapshotter } from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import {
  alreadyExists,
  CodedError,
  invalidArgument,
  isAlreadyExists,
  isNotFound,
  messageOf,
  notFound,
} from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { nowNanos } from "#pkg/time.ts";

const refLabel = "containerd.io/snapshot.ref";
const cleanupTimeoutMs = 10_000;

interface CreationRequest {
  readonly ns: string;
  readonly snapshotter: string;
  readonly key: string;
  readonly parent: string;
  readonly labels: Labels;
  readonly writable: boolean;
}

/** Makes one active snapshot or view: the backend's first, then the record. */
export class SnapshotCreation {
  readonly #state: MetadataState;
  readonly #backend: Snapshotter;
  readonly #request: CreationRequest;
  readonly #kind: string;

  constructor(state: MetadataState, backend: Snapshotter, request: CreationRequest) {
    this.#state = state;
    this.#backend = backend;
    this.#request = request;
    this.#kind = `snapshot/${request.snapshotter}`;
  }

  async run(ctx: Context): Promise<readonly Mount[]> {
    const { ns, key } = this.#request;
    const target = this.#request.labels[refLabel];
    if (target !== undefined && (await this.#leaseExisting(ctx, target))) {
      throw alreadyExists(`target snapshot "${target}"`);
    }
    if (await this.#leaseExisting(ctx, key)) throw alreadyExists(`snapshot "${key}"`);
    const backendParent = await this.#backendParent();
    const made = backendKey(ns, await this.#state.nextSequence(), key);
    using _lock = await this.#lockBackend(made);
    const mounts = await this.#make(ctx, made, backendParent, target);
    this.#state.failpoints.hit("metadata.snapshot-before-record");
    try {
      const now = nowNanos();
      const { labels } = this.#request;
      const times = { createdAt: now, updatedAt: now };
      await this.#insert(ctx, { name: key, backendKey: made, backendParent, labels, ...times });
    } catch (error) {
      await this.#undo(ctx, made);
      throw error;
    }
    return mounts;
  }

  /** Adds an existing snapshot to the caller's lease; false when there is none. */
  async #leaseExisting(ctx: Context, name: string): Promise<boolean> {
    const { ns } = this.#request;
    const found = await this.#state.view((tx) => findSnapshot(tx, ns, this.#kind, name));
    if (!found) return false;
    if (ctx.lease === undefined) return true;
    return this.#state.update((tx) => {
      const still = findSnapshot(tx, ns, this.#kind, name);
      if (still) tx.addToLease(ctx, still.node);
      return still !== undefined;
    });
  }

  async #backendParent(): Promise<string> {
    const { ns, parent } = this.#request;
    if (parent === "") return "";
    return this.#state.view((tx) => requireParent(tx, ns, this.#kind, parent).backendKey);
  }

  async #make(
    ctx: Context,
    key: string,
    parent: string,
    target: string | undefined,
  ): Promise<readonly Mount[]> {
    const options = { labels: inheritedLabels(this.#request.labels) };
    try {
      return this.#request.writable
        ? await this.#backend.prepare(ctx, key, parent, options)
        : await this.#backend.view(ctx, key, parent, options);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      if (target === undefined) {
        // The key was new, so this is no answer a caller could act on.
        const text = `unexpected error from snapshotter: ${messageOf(error)}`;
        throw new CodedError("unknown", text, { cause: error });
      }
      await this.#adopt(ctx, target, parent);
      throw alreadyExists(`target snapshot "${target}" from snapshotter`);
    }
  }

  /** The backend has the snapshot that the caller is about to make: it gets a record under the name asked for. */
  async #adopt(ctx: Context, target: string, parent: string): Promise<void> {
    const found = await this.#findTarget(ctx, target, parent);
    if (!found) throw notFound(`target snapshot "${target}" in backend`);
    using _lock = await this.#lockBackend(found.name);
    // Not swept between being found and being locked.
    await this.#backend.stat(ctx, found.name);
    await this.#insert(ctx, {
      name: target,
      backendKey: found.name,
      backendParent: found.parent,
      labels: { ...found.labels, ...this.#request.labels },
      createdAt: found.createdAt,
      updatedAt: found.updatedAt,
    });
  }

  async #findTarget(
    ctx: Context,
    target: string,
    parent: string,
  ): Promise<SnapshotInfo | undefined> {
    const filter = `labels.${JSON.stringify(refLabel)}==${JSON.stringify(target)},parent==${JSON.stringify(parent)}`;
    for await (const info of this.#backend.list(ctx, [filter])) {
      const fits =
        info.kind === "committed" && info.labels[refLabel] === target && info.parent === parent;
      if (fits) return info;
    }
    return undefined;
  }

  async #insert(
    ctx: Context,
    record: Omit<SnapshotInfo, "kind" | "parent"> & { backendKey: string; backendParent: string },
  ): Promise<void> {
    const { ns, parent } = this.#request;
    const exists = await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      const node = tx.node(ns, this.#kind, record.name);
      tx.addToLease(ctx, node);
      if (findSnapshot(tx, ns, this.#kind, record.name) || isNamePending(tx, node)) return true;
      const found = parent === "" ? undefined : requireParent(tx, ns, this.#kind, parent);
      if (found && found.backendKey !== record.backendParent) {
        throw invalidArgument(`mismatched parent ${parent} of snapshot ${record.name}`);
      }
      insertSnapshot(tx, ns, { ...record, node, parentNode: found?.node });
      return false;
    });
    if (exists) throw alreadyExists(`snapshot "${record.name}"`);
  }

  async #undo(ctx: Context, key: string): Promise<void> {
    try {
      await this.#backend.remove(ctx.detached({ timeoutMs: cleanupTimeoutMs }), key);
    } catch (error) {
      if (isNotFound(error)) return;
      const { snapshotter } = this.#request;
      ctx.logger.error("failed to cleanup unreferenced snapshot", { snapshotter, key, error });
      this.#state.dirtyBackends.add(this.#kind);
    }
  }

  #lockBackend(key: string): Promise<Disposable> {
    return this.#state.locks.acquire(`snapshot ${this.#request.snapshotter} ${key}`);
  }
}
