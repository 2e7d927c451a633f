import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";

const layerMax = "16MiB";

/**
 * Snapshots that are file systems in files, which only a mount manager can mount: an ext4 for each,
 * made when it is mounted first, with the changes in its folder `upper`, and an overlay of them.
 *
 * What a snapshot is, another keeps; this one only says how it is mounted.
 */
export class ImageSnapshotter implements Snapshotter {
  readonly #records: Snapshotter;
  readonly #dir: string;
  readonly #files = new Map<string, string>();
  #serial = 0;

  private constructor(records: Snapshotter, dir: string) {
    this.#records = records;
    this.#dir = dir;
  }

  /** `dir` has to be below the root of the daemon that mounts. */
  static async open(records: Snapshotter, dir: string): Promise<ImageSnapshotter> {
    await mkdir(dir, { recursive: true });
    return new ImageSnapshotter(records, dir);
  }

  async prepare(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]> {
    await this.#records.prepare(ctx, key, parent, options);
    this.#files.set(key, join(this.#dir, `${this.#serial++}.ext4`));
    return this.mounts(ctx, key);
  }

  async view(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]> {
    await this.#records.view(ctx, key, parent, options);
    return this.mounts(ctx, key);
  }

  async mounts(ctx: Context, key: string): Promise<readonly Mount[]> {
    const { kind, parent } = await this.#records.stat(ctx, key);
    const parents: string[] = [];
    for (let name = parent; name !== ""; ) {
      parents.push(name);
      ({ parent: name } = await this.#records.stat(ctx, name));
    }
    const lowers = parents.map((_, index) => `{{ mount ${index} }}/upper`);
    const below = parents.map((name): Mount => {
      return mountOf("ext4", this.#fileOf(name), ["loop", "ro"]);
    });
    if (kind === "view") {
      const [only = ""] = lowers;
      const top =
        lowers.length > 1
          ? mountOf("format/overlay", "overlay", [`lowerdir=${lowers.join(":")}`])
          : mountOf("format/bind", only, ["rbind", "ro"]);
      return [...below, top];
    }
    const own = mountOf("mkfs/ext4", this.#fileOf(key), [
      `X-containerd.mkfs.size=${layerMax}`,
      "loop",
    ]);
    const at = `{{ mount ${below.length} }}`;
    const upper = `X-containerd.mkdir.path=${at}/upper:755`;
    const work = `X-containerd.mkdir.path=${at}/work`;
    const overlay = [`upperdir=${at}/upper`, `workdir=${at}/work`, `lowerdir=${lowers.join(":")}`];
    const top =
      lowers.length > 0
        ? mountOf("format/mkdir/overlay", "overlay", [upper, work, ...overlay])
        : mountOf("format/mkdir/bind", `${at}/upper`, [upper, "rbind", "rw"]);
    return [...below, own, top];
  }

  async commit(ctx: Context, name: string, key: string, options?: SnapshotOptions): Promise<void> {
    await this.#records.commit(ctx, name, key, options);
    this.#files.set(name, this.#fileOf(key));
    this.#files.delete(key);
  }

  async remove(ctx: Context, key: string): Promise<void> {
    await this.#records.remove(ctx, key);
    const file = this.#files.get(key);
    if (file !== undefined) await rm(file, { force: true });
  }

  stat(ctx: Context, name: string): Promise<SnapshotInfo> {
    return this.#records.stat(ctx, name);
  }

  update(
    ctx: Context,
    info: { readonly name: string; readonly labels: Labels },
    fields?: readonly string[],
  ): Promise<SnapshotInfo> {
    return this.#records.update(ctx, info, fields);
  }

  usage(ctx: Context, name: string): Promise<SnapshotUsage> {
    return this.#records.usage(ctx, name);
  }

  list(ctx: Context, filters?: readonly string[]): AsyncIterable<SnapshotInfo> {
    return this.#records.list(ctx, filters);
  }

  cleanup(ctx: Context): Promise<void> {
    return this.#records.cleanup(ctx);
  }

  close(): Promise<void> {
    return this.#records.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #fileOf(name: string): string {
    const file = this.#files.get(name);
    if (file === undefined) throw new Error(`no file of ${name}`);
    return file;
  }
}

function mountOf(type: string, source: string, options: readonly string[]): Mount {
  return { type, source, target: "", options };
}
