import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { maskedLabels } from "#pkg/field-mask.ts";
import { snapshotField } from "#core/snapshots/filter-fields.ts";
import type { Mount } from "#core/mount/mount.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  isErrno,
  notFound,
  notImplemented,
} from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { withoutEmpty } from "#pkg/label.ts";
import { nowNanos } from "#pkg/time.ts";

/**
 * A backend for tests: a snapshot is an entry of one file, which each change replaces. It survives the process, checks
 * its callers as strictly as a real one, and needs no root.
 */
export class FileSnapshotter implements Snapshotter {
  readonly #dir: string;
  readonly #failpoints: Failpoints;
  readonly #snapshots: Map<string, SnapshotInfo>;
  #saving: Promise<void> = Promise.resolve();
  /** Awaited before and after each change, for tests that hold a backend up. */
  beforeChange: (what: string) => Promise<void> = async () => {};
  afterChange: (what: string) => Promise<void> = async () => {};

  private constructor(dir: string, failpoints: Failpoints, snapshots: Map<string, SnapshotInfo>) {
    this.#dir = dir;
    this.#failpoints = failpoints;
    this.#snapshots = snapshots;
  }

  static async open(dir: string, failpoints: Failpoints = noFailpoints): Promise<FileSnapshotter> {
    await mkdir(dir, { recursive: true });
    const text = await readFile(join(dir, "snapshots.json"), "utf8").catch((error: unknown) => {
      if (isErrno(error, "ENOENT")) return "[]";
      throw error;
    });
    const all = JSON.parse(text, (key, value: unknown) =>
      key.endsWith("At") ? BigInt(String(value)) : value,
    ) as SnapshotInfo[]; // -- written by `save` below
    return new FileSnapshotter(dir, failpoints, new Map(all.map((info) => [info.name, info])));
  }

  get names(): string[] {
    return [...this.#snapshots.keys()].toSorted();
  }

  async stat(_ctx: Context, name: string): Promise<SnapshotInfo> {
    return this.#get(name);
  }

  async update(
    _ctx: Context,
    given: Pick<SnapshotInfo, "name" | "labels">,
    fields: readonly string[] = [],
  ): Promise<SnapshotInfo> {
    const current = this.#get(given.name);
    const labels = withoutEmpty(
      maskedLabels(current.labels, given.labels, { fields, what: `snapshot "${current.name}"` }),
    );
    const info = { ...current, labels, updatedAt: nowNanos() };
    this.#snapshots.set(given.name, info);
    await this.#save();
    return info;
  }

  async usage(_ctx: Context, name: string): Promise<SnapshotUsage> {
    this.#get(name);
    return { sizeBytes: name.length, inodes: 1 };
  }

  async mounts(_ctx: Context, key: string): Promise<readonly Mount[]> {
    const { kind } = this.#get(key);
    if (kind === "committed") throw failedPrecondition(`snapshot ${key} is committed`);
    return [{ type: "bind", source: `/${key}`, target: "", options: ["rbind"] }];
  }

  async prepare(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    return this.#create(ctx, "active", key, { parent, options });
  }

  async view(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    return this.#create(ctx, "view", key, { parent, options });
  }

  async commit(
    _ctx: Context,
    name: string,
    key: string,
    options: SnapshotOptions = {},
  ): Promise<void> {
    await this.beforeChange("commit");
    const active = this.#get(key);
    if (active.kind !== "active") throw failedPrecondition(`snapshot ${key} is not active`);
    if (this.#snapshots.has(name)) throw alreadyExists(`snapshot ${name}`);
    const parent = options.parent ?? active.parent;
    this.#snapshots.delete(key);
    const labels = options.labels ?? {};
    this.#snapshots.set(name, { ...active, kind: "committed", name, parent, labels });
    this.#failpoints.hit("backend.before-commit");
    await this.#save();
  }

  async remove(_ctx: Context, key: string): Promise<void> {
    await this.beforeChange("remove");
    this.#get(key);
    for (const { parent } of this.#snapshots.values()) {
      if (parent === key) throw failedPrecondition(`snapshot ${key} has a child`);
    }
    this.#snapshots.delete(key);
    await this.#save();
  }

  async *list(_ctx: Context, filters?: readonly string[]): AsyncGenerator<SnapshotInfo> {
    const matches = parseFilters(filters);
    for (const info of this.#snapshots.values()) if (matches(snapshotField(info))) yield info;
  }

  async cleanup(): Promise<void> {
    throw notImplemented("cleanup");
  }

  async close(): Promise<void> {
    await this.#saving;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async clear(): Promise<void> {
    this.#snapshots.clear();
    await rm(join(this.#dir, "snapshots.json"), { force: true });
  }

  /** A snapshot that came to be without a caller, as a remote snapshotter's do. */
  async plant(info: SnapshotInfo): Promise<void> {
    this.#snapshots.set(info.name, info);
    await this.#save();
  }

  async #create(
    _ctx: Context,
    kind: "active" | "view",
    key: string,
    { parent, options }: { parent: string; options: SnapshotOptions },
  ): Promise<readonly Mount[]> {
    await this.beforeChange("create");
    if (this.#snapshots.has(key)) throw alreadyExists(`snapshot ${key}`);
    const target = options.labels?.["containerd.io/snapshot.ref"];
    const planted = this.#snapshots
      .values()
      .some(
        (info) =>
          target !== undefined &&
          info.kind === "committed" &&
          info.parent === parent &&
          info.labels["containerd.io/snapshot.ref"] === target,
      );
    if (planted) throw alreadyExists(`target snapshot ${target}`);
    if (parent !== "" && this.#get(parent).kind !== "committed") {
      throw invalidArgument(`parent snapshot ${parent} is not committed`);
    }
    const now = nowNanos();
    const labels = options.labels ?? {};
    const times = { createdAt: now, updatedAt: now };
    this.#snapshots.set(key, { kind, name: key, parent, labels, ...times });
    await this.#save();
    await this.afterChange("create");
    return [{ type: "bind", source: `/${key}`, target: "", options: ["rbind"] }];
  }

  #get(name: string): SnapshotInfo {
    const info = this.#snapshots.get(name);
    if (!info) throw notFound(`snapshot ${name}`);
    return info;
  }

  #save(): Promise<void> {
    const text = JSON.stringify([...this.#snapshots.values()], (_key, value: unknown) =>
      typeof value === "bigint" ? String(value) : value,
    );
    this.#saving = this.#saving.then(async () => {
      const path = join(this.#dir, "snapshots.json");
      await writeFile(`${path}.tmp`, text);
      await rename(`${path}.tmp`, path);
    });
    return this.#saving;
  }
}
