import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { Coalescer } from "#pkg/coalescer.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, failedPrecondition, unavailable, wrap } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { Checkpointer } from "#pkg/sqlite/checkpointer.ts";
import { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";
import { bigint } from "#pkg/sqlite/row.ts";
import { Sql } from "#pkg/sqlite/sql.ts";

/** SQL, or a function, that takes the schema from version `index` to `index + 1`. */
export type Migration = string | ((sql: Sql) => void);

export interface DatabaseOptions {
  /** The file; its directory must exist. `-wal`, `-shm` and `.lock` appear beside it. */
  readonly path: string;
  readonly migrations: readonly Migration[];
  /** How long to wait for another process that has it open. */
  readonly lockTimeoutMs?: number | undefined;
  /** Answers before the disk has it: a power cut may take back what was acknowledged. */
  readonly noSync?: boolean | undefined;
  readonly failpoints?: Failpoints | undefined;
}

const lockPollMs = 50;
/** How long a transaction waits, stopping the loop, for a user's own `sqlite3` that is writing. */
const busyTimeoutMs = 250;
const sqliteBusy = 5;
const sqliteFull = 13;

/**
 * One SQLite file, written by this process alone, whose answers are durable.
 *
 * Transactions are synchronous functions, so nothing comes between their statements. They commit into the
 * write-ahead log without a sync; then one fdatasync, shared by all who wait, makes it durable before `update` or
 * `view` resolves. So nothing is answered, be it "created" or "already exists", that a power cut could take back, and
 * the event loop never waits for the disk.
 */
export class DurableDatabase implements AsyncDisposable {
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #sql: Sql;
  readonly #resources: AsyncDisposableStack;
  readonly #failpoints: Failpoints;
  readonly #sync: Coalescer<void> | undefined;
  readonly #checkpointer: Checkpointer;
  #unsynced = false;
  #failure: CodedError | undefined;

  private constructor(parts: {
    path: string;
    db: DatabaseSync;
    wal: FileHandle;
    failpoints: Failpoints;
    noSync: boolean;
    checkpointer: Checkpointer;
    resources: AsyncDisposableStack;
  }) {
    this.path = parts.path;
    this.#db = parts.db;
    this.#sql = new Sql(parts.db);
    this.#resources = parts.resources;
    this.#failpoints = parts.failpoints;
    this.#checkpointer = parts.checkpointer;
    this.#sync = parts.noSync ? undefined : new Coalescer(() => this.#syncLog(parts.wal));
  }

  /**
   * Opens or makes the file and brings its schema up to date.
   *
   * Throws `unavailable` when another process has it open, `failed-precondition` when a newer version of this
   * program wrote it, `data-loss` when it is no database.
   */
  static async open(ctx: Context, options: DatabaseOptions): Promise<DurableDatabase> {
    await using stack = new AsyncDisposableStack();
    stack.use(await lock(ctx, `${options.path}.lock`, options.lockTimeoutMs ?? 0));
    const db = stack.use(openFile(options.path));
    migrate(db, options);
    // Locks of SQLite are on the file and on `-shm`: closing a descriptor of the log drops none of them.
    const wal = stack.use(await open(`${options.path}-wal`, "r+"));
    if (!options.noSync) {
      await wal.sync();
      await syncDirectory(dirname(options.path));
    }
    const checkpointer = stack.use(new Checkpointer(options.path, db));
    return new DurableDatabase({
      path: options.path,
      db,
      wal,
      failpoints: options.failpoints ?? noFailpoints,
      noSync: options.noSync ?? false,
      checkpointer,
      resources: stack.move(),
    });
  }

  /** Reads one consistent state; waits until what was read is durable. */
  async view<T>(read: (sql: Sql) => T): Promise<T> {
    this.#assertUsable();
    const result = read(this.#sql);
    await this.#durable();
    return result;
  }

  /**
   * Runs one transaction; when `write` throws, nothing of it happened. Resolves, or rejects, once everything
   * committed so far is durable.
   *
   * Throws `resource-exhausted` when the disk is full. After a failed sync every call throws `data-loss`: what the
   * kernel could not write it may already have forgotten.
   */
  async update<T>(write: (sql: Sql) => T): Promise<T> {
    this.#assertUsable();
    try {
      return this.#transact(write);
    } finally {
      await this.#durable();
    }
  }

  /** The state of this moment, for reads that take longer than the loop can stand still. */
  snapshot(): ReadSnapshot {
    this.#assertUsable();
    return new ReadSnapshot(this.path);
  }

  async close(): Promise<void> {
    this.#failure ??= failedPrecondition(`database ${this.path} is closed`);
    await this.#sync?.idle();
    await this.#resources.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #transact<T>(write: (sql: Sql) => T): T {
    try {
      this.#db.exec("BEGIN IMMEDIATE");
      const result = write(this.#sql);
      this.#failpoints.hit("database.before-commit");
      this.#db.exec("COMMIT");
      this.#unsynced = true;
      this.#failpoints.hit("database.after-commit");
      this.#checkpointer.committed();
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw translate(this.path, error);
    }
  }

  async #durable(): Promise<void> {
    // What was committed before is not on the disk while the sync that was begun for it runs.
    const sync = this.#unsynced ? this.#sync?.run() : this.#sync?.underWay;
    if (!sync) return;
    await sync;
    this.#failpoints.hit("database.after-sync");
  }

  async #syncLog(wal: FileHandle): Promise<void> {
    // Cleared before the sync starts: a commit that comes while it runs sets it again.
    this.#unsynced = false;
    try {
      await wal.datasync();
    } catch (error) {
      this.#unsynced = true;
      this.#failure = new CodedError("data-loss", `database ${this.path} could not be synced`, {
        cause: error,
      });
      throw this.#failure;
    }
  }

  #assertUsable(): void {
    if (this.#failure) throw this.#failure;
  }
}

function openFile(path: string): DatabaseSync {
  try {
    const db = new DatabaseSync(path, { timeout: busyTimeoutMs });
    try {
      db.exec(`
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA temp_store = MEMORY;
        PRAGMA foreign_keys = ON;
      `);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  } catch (error) {
    throw new CodedError("data-loss", `database ${path} cannot be opened: ${String(error)}`, {
      cause: error,
    });
  }
}

function migrate(db: DatabaseSync, { path, migrations }: DatabaseOptions): void {
  const sql = new Sql(db);
  const row = sql.get("PRAGMA user_version");
  const version = row === undefined ? 0 : Number(bigint(row, "user_version"));
  if (version > migrations.length) {
    throw failedPrecondition(
      `database ${path} has version ${version}, this program knows up to ${migrations.length}`,
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    db.exec("BEGIN IMMEDIATE");
    try {
      if (typeof migration === "string") db.exec(migration);
      else migration(sql);
      db.exec(`PRAGMA user_version = ${index + 1}; COMMIT`);
    } catch (error) {
      db.exec("ROLLBACK");
      throw wrap(`database ${path}: migration to version ${index + 1}`, error);
    }
  }
  // The log file exists only once something was written or read in this mode.
  if (version === migrations.length)
    db.exec(`BEGIN IMMEDIATE; PRAGMA user_version = ${version}; COMMIT`);
}

/**
 * Keeps other processes out for as long as it is held: an exclusive transaction on a database that stays empty, since
 * Node has no flock. The kernel drops it with the process.
 */
async function lock(ctx: Context, path: string, timeoutMs: number): Promise<Disposable> {
  const deadlineMs = performance.now() + timeoutMs;
  const db = new DatabaseSync(path);
  try {
    for (;;) {
      try {
        db.exec("BEGIN EXCLUSIVE");
        return db;
      } catch (error) {
        if (primaryCode(error) !== sqliteBusy) throw error;
        if (performance.now() >= deadlineMs) {
          throw unavailable(`${path} is held by another process`, { cause: error });
        }
      }
      await delay(lockPollMs, undefined, { signal: ctx.signal });
    }
  } catch (error) {
    db.close();
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return;
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

function translate(path: string, error: unknown): unknown {
  if (primaryCode(error) !== sqliteFull) return error;
  return new CodedError("resource-exhausted", `database ${path}: no space left`, { cause: error });
}
