import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotRecords } from "#core/snapshots/records.ts";
import type { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Coalescer } from "#pkg/coalescer.ts";
import { Context } from "#pkg/context.ts";
import { isErrno, messageOf } from "#pkg/errors.ts";

/** How long a sync may take: a disk slower than this is taken for dead. */
const syncTimeoutMs = 10 * 60_000;
/** Clean-up of a failed creation goes on after its caller has given up. */
const discardTimeoutMs = 60_000;

/**
 * The directories of a snapshotter: `<root>/snapshots/<id>`.
 *
 * One is made under another name and renamed when complete, before its record; it is renamed again
 * before it is deleted, after its record is gone. So whatever stands there without a record, after
 * a crash at any moment, is garbage, and whatever has a record is complete.
 */
export class SnapshotDirectories {
  readonly #dir: string;
  readonly #workers: TreeWorkers;
  /** Names of directories on their way to a record. */
  readonly #pending = new Set<string>();
  readonly #sync: Coalescer<void>;
  readonly #collect: Coalescer<void>;
  readonly #logger: Context["logger"];

  private constructor(
    dir: string,
    workers: TreeWorkers,
    logger: Context["logger"],
    records: Pick<SnapshotRecords, "ids">,
  ) {
    this.#dir = dir;
    this.#workers = workers;
    this.#logger = logger;
    this.#sync = new Coalescer(async () => {
      const ctx = Context.background({ logger }).withTimeout(syncTimeoutMs);
      await workers.sync(ctx, dir);
    });
    this.#collect = new Coalescer(() => this.#removeUnrecorded(records));
  }

  /** `records` says which ids have a record. */
  static async open(
    ctx: Context,
    root: string,
    workers: TreeWorkers,
    records: Pick<SnapshotRecords, "ids">,
  ): Promise<SnapshotDirectories> {
    const dir = join(root, "snapshots");
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return new SnapshotDirectories(dir, workers, ctx.logger, records);
  }

  path(id: number): string {
    return join(this.#dir, String(id));
  }

  /**
   * Makes the directory of a snapshot and then its record. When either fails, both are gone.
   *
   * `fill` is given the directory under its first name.
   */
  async create<T>(
    ctx: Context,
    id: number,
    fill: (dir: string) => Promise<void>,
    record: () => Promise<T>,
  ): Promise<T> {
    const name = String(id);
    const fresh = `new-${name}`;
    this.#pending.add(name).add(fresh);
    try {
      await mkdir(join(this.#dir, fresh), { mode: 0o700 });
      await fill(join(this.#dir, fresh));
      await rename(join(this.#dir, fresh), join(this.#dir, name));
      return await record();
    } catch (error) {
      await this.#discard(ctx, [fresh, name]);
      throw error;
    } finally {
      this.#pending.delete(name);
      this.#pending.delete(fresh);
    }
  }

  /** Ids whose directory is there. A power cut may take one whose record stayed. */
  async present(): Promise<ReadonlySet<number>> {
    return new Set((await readdir(this.#dir)).filter((name) => /^[0-9]+$/.test(name)).map(Number));
  }

  /** Deletes what has no record; one who asks while it runs waits for the next run. */
  async collect(ctx: Context): Promise<void> {
    await unlessEnded(ctx, this.#collect.run());
  }

  /** Everything written so far is on disk; shared with all who ask meanwhile. */
  async sync(ctx: Context): Promise<void> {
    await unlessEnded(ctx, this.#sync.run());
  }

  /** Waits for what runs in the background. */
  async idle(): Promise<void> {
    await this.#collect.idle();
    await this.#sync.idle();
  }

  async #removeUnrecorded(records: Pick<SnapshotRecords, "ids">): Promise<void> {
    // In this order: what appears after the listing is not in it, and what got its record meanwhile
    // has it.
    const names = (await readdir(this.#dir)).filter((name) => !this.#pending.has(name));
    const ids = await records.ids();
    for (const name of names) {
      if (/^[0-9]+$/.test(name) && ids.has(Number(name))) continue;
      await this.#remove(name).catch((error: unknown) => {
        this.#logger.warn("failed to remove directory", {
          path: join(this.#dir, name),
          error: messageOf(error),
        });
      });
    }
  }

  async #remove(name: string): Promise<void> {
    const from = join(this.#dir, name);
    const path = name.startsWith("rm-") ? from : join(this.#dir, `rm-${name}`);
    try {
      if (path !== from) await rename(from, path);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return;
      throw error;
    }
    await this.#workers.run(Context.background({ logger: this.#logger }), { kind: "remove", path });
  }

  async #discard(ctx: Context, names: readonly string[]): Promise<void> {
    const undo = ctx.detached({ timeoutMs: discardTimeoutMs });
    for (const name of names) {
      const path = join(this.#dir, name);
      await this.#workers.run(undo, { kind: "remove", path }).catch((error: unknown) => {
        ctx.logger.warn("failed to remove directory", { path, error: messageOf(error) });
      });
    }
  }
}

async function unlessEnded(ctx: Context, work: Promise<void>): Promise<void> {
  ctx.throwIfEnded();
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(ctx.signal.reason);
  ctx.signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([work, ended]);
  } finally {
    ctx.signal.removeEventListener("abort", onAbort);
  }
}
