import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { snapshotField } from "#core/snapshots/filter-fields.ts";
import type {
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import {
  alreadyExists,
  CodedError,
  failedPrecondition,
  invalidArgument,
  notFound,
} from "#pkg/errors.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import { maskedLabels } from "#pkg/field-mask.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import type { Labels } from "#pkg/label.ts";
import { DurableDatabase } from "#pkg/sqlite/database.ts";
import {
  bigint,
  encodeMap,
  number,
  optionalText,
  type Row,
  stringMap,
  text,
} from "#pkg/sqlite/row.ts";
import type { Sql } from "#pkg/sqlite/sql.ts";
import { nowNanos } from "#pkg/time.ts";

/**
 * A snapshot as its backend keeps it; `id` names its directory.
 *
 * No id that had a record comes again. One whose creation a crash cut off does, after the next start, which has
 * removed what it left (`SnapshotDirectories.collect`).
 */
export interface SnapshotRecord {
  readonly id: number;
  readonly info: SnapshotInfo;
  readonly usage: SnapshotUsage;
}

/** An active snapshot or view, with the ids of what it stands on, the nearest first. */
export interface SnapshotChain extends SnapshotRecord {
  readonly parentIds: readonly number[];
}

const schema = `
  CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    parent_id INTEGER REFERENCES snapshots (id),
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX snapshots_by_parent ON snapshots (parent_id) WHERE parent_id IS NOT NULL;
`;

const selected = `
  SELECT s.*, p.name AS parent FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent_id`;

const listBatch = 256;

/**
 * What a snapshotter of this project knows of its snapshots, in a database of its own
 * (`metadata.sqlite`).
 */
export class SnapshotRecords implements AsyncDisposable {
  readonly #db: DurableDatabase;
  #lastId: number;

  private constructor(db: DurableDatabase, lastId: number) {
    this.#db = db;
    this.#lastId = lastId;
  }

  /**
   * Opens or makes `metadata.sqlite` in a snapshotter's root.
   *
   * Throws `failed-precondition` where a containerd written in Go keeps snapshots: what we do not
   * know of we would delete.
   */
  static async open(ctx: Context, root: string, failpoints?: Failpoints): Promise<SnapshotRecords> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const path = join(root, "metadata.sqlite");
    const names = await readdir(root);
    if (names.includes("metadata.db") && !names.includes("metadata.sqlite")) {
      throw failedPrecondition(`${root} holds snapshots of another containerd (metadata.db)`);
    }
    const db = await DurableDatabase.open(ctx, { path, migrations: [schema], failpoints });
    const lastId = await db.view((sql) => {
      const row = sql.get("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'");
      return row === undefined ? 0 : number(row, "seq");
    });
    return new SnapshotRecords(db, lastId);
  }

  /** An id for a snapshot about to be made. */
  allocateId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** Throws `not-found`. */
  get(name: string): Promise<SnapshotRecord> {
    return this.#db.view((sql) => existing(sql, name));
  }

  /** Throws `not-found`, and `failed-precondition` for a committed one. */
  chain(key: string): Promise<SnapshotChain> {
    return this.#db.view((sql) => {
      const record = existing(sql, key);
      if (record.info.kind === "committed") {
        throw failedPrecondition(`requested snapshot ${key} not active or view`);
      }
      return { ...record, parentIds: parentIdsOf(sql, record.id) };
    });
  }

  /** The ids below a snapshot that is to be made on `parent`. Throws as `create` does. */
  parentIds(parent: string): Promise<readonly number[]> {
    return this.#db.view((sql) => {
      if (parent === "") return [];
      const { id } = usableParent(sql, parent);
      return [id, ...parentIdsOf(sql, id)];
    });
  }

  /**
   * Throws `already-exists`, `not-found` for the parent, `invalid-argument` when that is not
   * committed.
   */
  create(
    id: number,
    kind: "view" | "active",
    key: string,
    parent: string,
    labels: Labels,
  ): Promise<SnapshotChain> {
    return this.#db.update((sql) => {
      const parentId = parent === "" ? null : usableParent(sql, parent).id;
      assertFree(sql, key, `snapshot ${key}`);
      const now = nowNanos();
      sql.run(
        `INSERT INTO snapshots (id, name, kind, parent_id, labels, created_at, updated_at)
          VALUES (?, ?, ?, ?, ?, ?, ?)`,
        id,
        key,
        kind,
        parentId,
        encodeMap(labels),
        now,
        now,
      );
      return { ...existing(sql, key), parentIds: parentIdsOf(sql, id) };
    });
  }

  /** Throws `already-exists`, `not-found`, `failed-precondition` for what is not active. */
  commit(
    name: string,
    key: string,
    usage: SnapshotUsage,
    options: SnapshotOptions = {},
  ): Promise<void> {
    return this.#db.update((sql) => {
      assertFree(sql, name, `committed snapshot ${name}`);
      const { id, info } = existing(sql, key);
      if (info.kind !== "active") throw failedPrecondition(`snapshot "${key}" is not active`);
      const parent = options.parent ?? "";
      if (parent !== "" && info.parent !== "" && parent !== info.parent) {
        throw invalidArgument(`cannot change parent of active snapshot "${key}" on commit`);
      }
      if (parent !== "" && info.parent === "") {
        const parentId = usableParent(sql, parent).id;
        sql.run("UPDATE snapshots SET parent_id = ? WHERE id = ?", parentId, id);
      }
      const now = nowNanos();
      sql.run(
        `UPDATE snapshots SET name = ?, kind = 'committed', labels = ?, created_at = ?,
          updated_at = ?, size_bytes = ?, inodes = ? WHERE id = ?`,
        name,
        encodeMap(options.labels ?? {}),
        now,
        now,
        usage.sizeBytes,
        usage.inodes,
        id,
      );
    });
  }

  /** Throws `not-found`, and `failed-precondition` while it has children. */
  remove(key: string): Promise<{ readonly id: number }> {
    return this.#db.update((sql) => {
      const row = sql.get("SELECT id FROM snapshots WHERE name = ?", key);
      if (!row) throw notFound(`snapshot ${key}`);
      const id = number(row, "id");
      if (sql.get("SELECT id FROM snapshots WHERE parent_id = ? LIMIT 1", id)) {
        throw failedPrecondition("cannot remove snapshot with child");
      }
      sql.run("DELETE FROM snapshots WHERE id = ?", id);
      return { id };
    });
  }

  /** Throws `not-found`, and `invalid-argument` for a field that is not a label. */
  update(name: string, labels: Labels, fields: readonly string[] = []): Promise<SnapshotRecord> {
    return this.#db.update((sql) => {
      const { info } = existing(sql, name);
      const updated = maskedLabels(info.labels, labels, { fields, what: `snapshot "${name}"` });
      const set = Object.fromEntries(Object.entries(updated).filter(([, value]) => value !== ""));
      sql.run(
        "UPDATE snapshots SET labels = ?, updated_at = ? WHERE name = ?",
        encodeMap(set),
        nowNanos(),
        name,
      );
      return existing(sql, name);
    });
  }

  /**
   * In the order they were made, each as it is when its batch is read. Throws `invalid-argument`
   * for a bad filter.
   */
  async *list(filters: readonly string[] = []): AsyncGenerator<SnapshotRecord, void, undefined> {
    const matches = parseFilters(filters);
    let after = 0;
    for (;;) {
      const batch = await this.#db.view((sql) => {
        const query = `${selected} WHERE s.id > ? ORDER BY s.id LIMIT ${listBatch}`;
        return sql.all(query, after).map(recordOf);
      });
      for (const record of batch) if (matches(snapshotField(record.info))) yield record;
      const last = batch.at(-1);
      if (!last || batch.length < listBatch) return;
      after = last.id;
    }
  }

  /** Of all snapshots, for sweeping directories. */
  ids(): Promise<ReadonlySet<number>> {
    return this.#db.view((sql) => {
      return new Set(sql.all("SELECT id FROM snapshots").map((row) => number(row, "id")));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#db.close();
  }
}

function existing(sql: Sql, name: string): SnapshotRecord {
  const row = sql.get(`${selected} WHERE s.name = ?`, name);
  if (!row) throw notFound("snapshot does not exist");
  return recordOf(row);
}

function usableParent(sql: Sql, name: string): { readonly id: number } {
  const row = sql.get("SELECT id, kind FROM snapshots WHERE name = ?", name);
  if (!row) throw notFound(`missing parent "${name}" bucket`);
  if (kindOf(row) !== "committed") {
    throw invalidArgument(`parent "${name}" is not committed snapshot`);
  }
  return { id: number(row, "id") };
}

function assertFree(sql: Sql, name: string, what: string): void {
  if (name === "") throw invalidArgument("snapshot name is empty");
  if (sql.get("SELECT id FROM snapshots WHERE name = ?", name)) throw alreadyExists(what);
}

function parentIdsOf(sql: Sql, id: number): number[] {
  const rows = sql.all(
    `WITH RECURSIVE chain (id, depth) AS (
      SELECT parent_id, 1 FROM snapshots WHERE id = ?
      UNION ALL
      SELECT s.parent_id, depth + 1 FROM snapshots s JOIN chain c ON s.id = c.id
    ) SELECT id FROM chain WHERE id IS NOT NULL ORDER BY depth`,
    id,
  );
  return rows.map((row) => number(row, "id"));
}

function recordOf(row: Row): SnapshotRecord {
  return {
    id: number(row, "id"),
    info: {
      kind: kindOf(row),
      name: text(row, "name"),
      parent: optionalText(row, "parent") ?? "",
      labels: stringMap(row, "labels"),
      createdAt: bigint(row, "created_at"),
      updatedAt: bigint(row, "updated_at"),
    },
    usage: { sizeBytes: number(row, "size_bytes"), inodes: number(row, "inodes") },
  };
}

function kindOf(row: Row): SnapshotKind {
  const kind = text(row, "kind");
  if (kind === "view" || kind === "active" || kind === "committed") return kind;
  throw new CodedError("data-loss", `database column kind: unknown value ${JSON.stringify(kind)}`);
}
