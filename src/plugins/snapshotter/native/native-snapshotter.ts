import { chmod } from "node:fs/promises";
import type { Mount } from "#core/mount/mount.ts";
import { SnapshotDirectories } from "#core/snapshots/directories.ts";
import { type SnapshotChain, SnapshotRecords } from "#core/snapshots/records.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, notImplemented, wrap } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import type { Labels } from "#pkg/label.ts";

export interface NativeSnapshotterOptions {
  readonly root: string;
  readonly workers: TreeWorkers;
  readonly failpoints?: Failpoints | undefined;
}

/** On what an image's layer is being unpacked into: the name under which it will be committed. */
const unpackLabel = "containerd.io/snapshot.ref";

/**
 * Snapshots as full copies of their parents, sharing blocks where the file system can: works
 * everywhere, slowly.
 */
export class NativeSnapshotter implements Snapshotter {
  readonly #workers: TreeWorkers;
  readonly #records: SnapshotRecords;
  readonly #directories: SnapshotDirectories;
  readonly #failpoints: Failpoints;

  private constructor(
    options: NativeSnapshotterOptions,
    records: SnapshotRecords,
    directories: SnapshotDirectories,
  ) {
    this.#workers = options.workers;
    this.#records = records;
    this.#directories = directories;
    this.#failpoints = options.failpoints ?? noFailpoints;
  }

  /** Opens or makes what is under `root`, and deletes what a crash left there. */
  static async open(ctx: Context, options: NativeSnapshotterOptions): Promise<NativeSnapshotter> {
    const { root, workers, failpoints } = options;
    await using stack = new AsyncDisposableStack();
    const records = stack.use(await SnapshotRecords.open(ctx, root, failpoints));
    const directories = await SnapshotDirectories.open(ctx, root, workers, records);
    await directories.collect(ctx);
    const snapshotter = new NativeSnapshotter(options, records, directories);
    await snapshotter.#heal(ctx);
    stack.move();
    return snapshotter;
  }

  async stat(_ctx: Context, name: string): Promise<SnapshotInfo> {
    return (await this.#records.get(name)).info;
  }

  async update(
    _ctx: Context,
    info: { readonly name: string; readonly labels: Labels },
    fields?: readonly string[],
  ): Promise<SnapshotInfo> {
    return (await this.#records.update(info.name, info.labels, fields)).info;
  }

  async usage(ctx: Context, name: string): Promise<SnapshotUsage> {
    const { id, info, usage } = await this.#records.get(name);
    if (info.kind !== "active") return usage;
    return this.#workers.run(ctx, { kind: "usage", path: this.#directories.path(id) });
  }

  async mounts(_ctx: Context, key: string): Promise<readonly Mount[]> {
    try {
      return this.#mountsOf(await this.#records.chain(key));
    } catch (error) {
      throw wrap("failed to get snapshot mount", error);
    }
  }

  prepare(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]> {
    return this.#create(ctx, "active", key, parent, options?.labels ?? {});
  }

  view(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]> {
    return this.#create(ctx, "view", key, parent, options?.labels ?? {});
  }

  async commit(
    ctx: Context,
    name: string,
    key: string,
    options: SnapshotOptions = {},
  ): Promise<void> {
    const { id, info } = await this.#records.get(key);
    if (options.parent !== undefined && options.parent !== "" && options.parent !== info.parent) {
      // A copy holds what its parent held; another parent would make that a lie.
      throw invalidArgument(`cannot change parent of active snapshot "${key}" on commit`);
    }
    const path = this.#directories.path(id);
    const usage = await this.#workers.run(ctx, { kind: "usage", path });
    // Files first: a record on disk must not promise layers that are not.
    await this.#directories.sync(ctx);
    this.#failpoints.hit("native.commit-synced");
    try {
      await this.#records.commit(name, key, usage, options);
    } catch (error) {
      throw wrap("failed to commit snapshot", error);
    }
  }

  async remove(ctx: Context, key: string): Promise<void> {
    try {
      await this.#records.remove(key);
    } catch (error) {
      throw wrap("failed to remove", error);
    }
    this.#failpoints.hit("native.record-removed");
    await this.#directories.collect(ctx);
  }

  async *list(_ctx: Context, filters?: readonly string[]): AsyncIterable<SnapshotInfo> {
    for await (const { info } of this.#records.list(filters)) yield info;
  }

  async cleanup(_ctx: Context): Promise<void> {
    throw notImplemented("snapshotter does not implement Cleanup method");
  }

  async close(): Promise<void> {
    await this.#directories.idle();
    await this.#records[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #create(
    ctx: Context,
    kind: "active" | "view",
    key: string,
    parent: string,
    labels: Labels,
  ): Promise<readonly Mount[]> {
    try {
      const [parentId] = await this.#records.parentIds(parent);
      const id = this.#records.allocateId();
      const record = (): Promise<SnapshotChain> => {
        this.#failpoints.hit("native.directory-made");
        return this.#records.create(id, kind, key, parent, labels);
      };
      // A view of a parent is the parent.
      if (kind === "view" && parentId !== undefined) return this.#mountsOf(await record());
      const fill = (dir: string): Promise<void> => this.#fill(ctx, dir, parentId, labels);
      return this.#mountsOf(await this.#directories.create(ctx, id, fill, record));
    } catch (error) {
      throw wrap("failed to create snapshot", error);
    }
  }

  /**
   * As the overlay snapshotter does: what a power cut took of snapshots not yet committed is made
   * again.
   */
  async #heal(ctx: Context): Promise<void> {
    const present = await this.#directories.present();
    for await (const { id, info } of this.#records.list()) {
      const isView = info.kind === "view" && info.parent !== "";
      if (isView || present.has(id)) continue;
      if (info.kind === "committed") {
        ctx.logger.error("files of a committed snapshot are gone", { snapshot: info.name, id });
        continue;
      }
      const { parentIds } = await this.#records.chain(info.name);
      const fill = (dir: string): Promise<void> => this.#fill(ctx, dir, parentIds[0], info.labels);
      await this.#directories.create(ctx, id, fill, async () => {});
      ctx.logger.warn("made the directory of a snapshot again", { snapshot: info.name, id });
    }
  }

  async #fill(
    ctx: Context,
    dir: string,
    parentId: number | undefined,
    labels: Labels,
  ): Promise<void> {
    await chmod(dir, 0o755);
    if (parentId === undefined) return;
    const from = this.#directories.path(parentId);
    await this.#workers.run(ctx, { kind: "copy", from, to: dir });
    // Torn by a power cut, it would stand for the image. What is unpacked into is synced by its
    // commit.
    if (labels[unpackLabel] === undefined) await this.#directories.sync(ctx);
  }

  #mountsOf({ id, info, parentIds }: SnapshotChain): readonly Mount[] {
    const [parent] = parentIds;
    const own = info.kind === "active" || parent === undefined ? id : parent;
    const source = this.#directories.path(own);
    const options = ["rbind", info.kind === "view" ? "ro" : "rw"];
    return [{ type: "bind", source, target: "", options }];
  }
}
