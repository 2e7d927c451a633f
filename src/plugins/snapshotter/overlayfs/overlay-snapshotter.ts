import { chmod, chown, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import { SnapshotDirectories } from "#core/snapshots/directories.ts";
import { dropOpenQuestions, readOpenQuestions } from "#core/snapshots/open-questions.ts";
import {
  type SnapshotChain,
  type SnapshotRecord,
  SnapshotRecords,
} from "#core/snapshots/records.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import type { Context } from "#pkg/context.ts";
import { wrap } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import type { Labels } from "#pkg/label.ts";
import { mappingOptions, rootOwner } from "#plugins/snapshotter/overlayfs/mapping-labels.ts";

export interface OverlaySnapshotterOptions {
  readonly root: string;
  readonly workers: TreeWorkers;
  /** `remove` frees no space: `cleanup` does. */
  readonly asyncRemove?: boolean | undefined;
  /** Every info carries where the snapshot's own files are. */
  readonly upperdirLabel?: boolean | undefined;
  /** Added to every overlay mount, never to bind mounts. */
  readonly mountOptions?: readonly string[] | undefined;
  /** The kernel can mount layers with the owners that a snapshot's labels map. */
  readonly remapIds?: boolean | undefined;
  readonly failpoints?: Failpoints | undefined;
}

const upperdirKey = "containerd.io/snapshot/overlay.upperdir";

/**
 * Snapshots as directories that overlayfs stacks: `snapshots/<id>/fs` holds what a snapshot
 * changed, `work` is the kernel's. Layout and mounts are upstream's; the records are ours
 * (`metadata.sqlite`).
 */
export class OverlaySnapshotter implements Snapshotter {
  readonly #options: OverlaySnapshotterOptions;
  readonly #records: SnapshotRecords;
  /** Ids of active snapshots whose files are on the disk, for a commit that comes next. */
  readonly #flushed = new Set<number>();
  readonly #directories: SnapshotDirectories;
  readonly #failpoints: Failpoints;

  private constructor(
    options: OverlaySnapshotterOptions,
    records: SnapshotRecords,
    directories: SnapshotDirectories,
  ) {
    this.#options = options;
    this.#records = records;
    this.#directories = directories;
    this.#failpoints = options.failpoints ?? noFailpoints;
  }

  /** Opens or makes what is under `root`, and deletes what a crash left there. */
  static async open(ctx: Context, options: OverlaySnapshotterOptions): Promise<OverlaySnapshotter> {
    const { root, workers, failpoints } = options;
    await using stack = new AsyncDisposableStack();
    const records = stack.use(await SnapshotRecords.open(ctx, root, failpoints));
    const directories = await SnapshotDirectories.open(ctx, root, workers, records);
    await directories.collect(ctx);
    const snapshotter = new OverlaySnapshotter(options, records, directories);
    await snapshotter.#heal(ctx);
    stack.move();
    return snapshotter;
  }

  async stat(_ctx: Context, name: string): Promise<SnapshotInfo> {
    return this.#shown(await this.#records.get(name));
  }

  async update(
    _ctx: Context,
    info: { readonly name: string; readonly labels: Labels },
    fields?: readonly string[],
  ): Promise<SnapshotInfo> {
    return this.#shown(await this.#records.update(info.name, info.labels, fields));
  }

  async usage(ctx: Context, name: string): Promise<SnapshotUsage> {
    const { id, info, usage } = await this.#records.get(name);
    if (info.kind !== "active") return usage;
    return this.#options.workers.run(ctx, { kind: "usage", path: this.#upper(id) });
  }

  async mounts(_ctx: Context, key: string): Promise<readonly Mount[]> {
    try {
      return this.#mountsOf(await this.#records.chain(key));
    } catch (error) {
      throw wrap("failed to get active mount", error);
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

  async flush(ctx: Context, keys: readonly string[]): Promise<void> {
    const ids = await Promise.all(keys.map(async (key) => (await this.#records.get(key)).id));
    await this.#directories.sync(ctx);
    for (const id of ids) this.#flushed.add(id);
  }

  async commit(
    ctx: Context,
    name: string,
    key: string,
    options: SnapshotOptions = {},
  ): Promise<void> {
    const { id, info } = await this.#records.get(key);
    const path = this.#upper(id);
    if (info.parent === "" && (options.parent ?? "") !== "") {
      await this.#adopt(ctx, id, options.parent ?? "");
    }
    const usage = await this.#options.workers.run(ctx, { kind: "usage", path });
    // Files first: a record on disk must not promise layers that are not.
    if (!this.#flushed.delete(id)) await this.#directories.sync(ctx);
    this.#failpoints.hit("overlayfs.commit-synced");
    try {
      await this.#records.commit(name, key, usage, options);
    } catch (error) {
      throw wrap(`failed to commit snapshot ${key}`, error);
    }
  }

  async remove(ctx: Context, key: string): Promise<void> {
    try {
      const { id } = await this.#records.remove(key);
      this.#flushed.delete(id);
    } catch (error) {
      throw wrap(`failed to remove snapshot ${key}`, error);
    }
    this.#failpoints.hit("overlayfs.record-removed");
    if (this.#options.asyncRemove !== true) await this.#directories.collect(ctx);
  }

  async *list(_ctx: Context, filters?: readonly string[]): AsyncIterable<SnapshotInfo> {
    for await (const record of this.#records.list(filters)) yield this.#shown(record);
  }

  async cleanup(ctx: Context): Promise<void> {
    await this.#directories.collect(ctx);
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
      rootOwner(labels);
      const parentIds = await this.#records.parentIds(parent);
      const id = this.#records.allocateId();
      const chain = await this.#directories.create(
        ctx,
        id,
        (dir) => this.#fill(dir, { kind, parentId: parentIds[0], labels }),
        () => {
          this.#failpoints.hit("overlayfs.directory-made");
          return this.#records.create(id, kind, key, parent, labels);
        },
      );
      return this.#mountsOf(chain);
    } catch (error) {
      throw wrap("failed to create snapshot", error);
    }
  }

  /**
   * Makes again what a power cut took: the directory of a snapshot that nobody had committed. What
   * was written into it had been promised to no one.
   */
  async #heal(ctx: Context): Promise<void> {
    const present = await this.#directories.present();
    for await (const { id, info } of this.#records.list()) {
      if (present.has(id)) continue;
      if (info.kind === "committed") {
        ctx.logger.error("files of a committed snapshot are gone", { snapshot: info.name, id });
        continue;
      }
      const { parentIds } = await this.#records.chain(info.name);
      const { kind, labels } = info;
      const [parentId] = parentIds;
      const fill = (dir: string): Promise<void> => this.#fill(dir, { kind, parentId, labels });
      await this.#directories.create(ctx, id, fill, async () => {});
      ctx.logger.warn("made the directory of a snapshot again", { snapshot: info.name, id });
    }
  }

  /**
   * Before the record names the parent: what a crash leaves is the same active snapshot, which can
   * do it again.
   */
  async #adopt(ctx: Context, id: number, parent: string): Promise<void> {
    const questions = await readOpenQuestions(this.#directories.path(id));
    if (!questions) return;
    this.#flushed.delete(id);
    const parents = (await this.#records.parentIds(parent)).map((p) => this.#upper(p));
    const root = this.#upper(id);
    await this.#options.workers.run(ctx, { kind: "adopt", root, parents, questions });
    await dropOpenQuestions(this.#directories.path(id));
  }

  async #fill(
    dir: string,
    { kind, parentId, labels }: { kind: string; parentId: number | undefined; labels: Labels },
  ): Promise<void> {
    await makeDirectory(join(dir, "fs"), 0o755);
    if (kind === "active") await makeDirectory(join(dir, "work"), 0o711);
    const mapped = rootOwner(labels);
    // Without a parent it is the mount itself that is mapped; an upper directory never is.
    if (parentId === undefined && (mapped === undefined || this.#options.remapIds === true)) return;
    // The root directory of a container belongs to whom its image gave it.
    const { uid, gid } = mapped ?? (await stat(this.#upper(parentId ?? 0)));
    await chown(join(dir, "fs"), uid, gid);
  }

  #mountsOf({ id, info, parentIds }: SnapshotChain): readonly Mount[] {
    const [parent] = parentIds;
    const mapping = this.#options.remapIds === true ? mappingOptions(info.labels) : [];
    if (parent === undefined) {
      return [bindMount(this.#upper(id), mapping, info.kind === "view" ? "ro" : "rw")];
    }
    if (info.kind === "view" && parentIds.length === 1) {
      return [bindMount(this.#upper(parent), mapping, "ro")];
    }
    const own = [`workdir=${this.#work(id)}`, `upperdir=${this.#upper(id)}`];
    const options = [
      ...mapping,
      ...(info.kind === "active" ? own : []),
      `lowerdir=${parentIds.map((p) => this.#upper(p)).join(":")}`,
      ...(this.#options.mountOptions ?? []),
    ];
    return [{ type: "overlay", source: "overlay", target: "", options }];
  }

  #upper(id: number): string {
    return join(this.#directories.path(id), "fs");
  }

  #work(id: number): string {
    return join(this.#directories.path(id), "work");
  }

  #shown({ id, info }: SnapshotRecord): SnapshotInfo {
    if (this.#options.upperdirLabel !== true) return info;
    return { ...info, labels: { ...info.labels, [upperdirKey]: this.#upper(id) } };
  }
}

function bindMount(source: string, mapping: readonly string[], access: "ro" | "rw"): Mount {
  return { type: "bind", source, target: "", options: [...mapping, access, "rbind"] };
}

/** Whatever the umask. */
async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path);
  await chmod(path, mode);
}
