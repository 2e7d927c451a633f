import assert from "node:assert";
import type { Publisher } from "#core/events/events.ts";
import { type NodeId, Transaction } from "#core/metadata/transaction.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import type { DurableDatabase } from "#pkg/sqlite/database.ts";
import { bigint } from "#pkg/sqlite/row.ts";

export type MutationListener = (change: { readonly dirty: boolean }) => void;

/** Numbers of backend keys taken from the database at a time. */
const sequenceBlock = 1000n;

/**
 * What the namespaced stores share, and what collections know of the writes before them.
 *
 * Transactions add to four notes, each emptied by another:
 * - `dirty`, whether there may be garbage at all: by a collection, once it has deleted records (`collected`).
 * - `dirtyBackends`: a sweep takes its backend out before it looks, and puts it back when it fails or has to leave
 *   something. It outlives collections in which that happens, and holds every backend after a start.
 * - `released`: a collection takes out those nodes it looked at; what is released while it marks waits for the next.
 *   None outlives the process, since opening looks at all nodes there are.
 * - `touched`: there only while a collection marks, and thrown away after it (`watch`).
 */
export class MetadataState {
  readonly db: DurableDatabase;
  readonly failpoints: Failpoints;
  /**
   * Held for a backend's object (`content <digest>`, `ingest <ref>`, `snapshot <key>`) from before the backend is
   * asked to make it until its record is there, and by the sweep while it looks for the record and removes the object.
   * So nothing is swept between its making and its record, and no collection waits for a writer or the other way.
   */
  readonly locks: KeyedMutex = new KeyedMutex();
  readonly dirtyBackends: Set<string>;
  /** Nodes that a collection may find unneeded; those of before the start it finds by looking at all. */
  readonly released: Set<NodeId> = new Set();
  /** See `Transaction.touched`; there while a collection marks. */
  #touched: Set<NodeId> | undefined;
  readonly #publisher: Publisher | undefined;
  readonly #listeners = new Set<MutationListener>();
  #dirty = false;
  #nextSequence = 0n;
  #sequenceEnd = 0n;

  constructor(parts: {
    db: DurableDatabase;
    publisher: Publisher | undefined;
    failpoints: Failpoints;
    dirtyBackends: Iterable<string>;
  }) {
    this.db = parts.db;
    this.#publisher = parts.publisher;
    this.failpoints = parts.failpoints;
    this.dirtyBackends = new Set(parts.dirtyBackends);
  }

  view<T>(read: (tx: Transaction) => T): Promise<T> {
    return this.db.view((sql) => read(new Transaction(sql)));
  }

  async update<T>(write: (tx: Transaction) => T): Promise<T> {
    const result = await this.updateQuietly(write);
    for (const listener of this.#listeners) listener({ dirty: this.#dirty });
    return result;
  }

  /** Without telling the scheduler of collections. */
  async updateQuietly<T>(write: (tx: Transaction) => T): Promise<T> {
    return this.db.update((sql) => {
      const tx = new Transaction(sql);
      const result = write(tx);
      // Also when the commit then fails: a sweep for nothing costs less than one forgotten.
      for (const backend of tx.dirtyBackends) this.dirtyBackends.add(backend);
      this.#dirty ||= tx.dirty;
      for (const node of tx.released) this.released.add(node);
      for (const node of tx.touched) this.#touched?.add(node);
      return result;
    });
  }

  onMutation(listener: MutationListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Notes from now on what transactions touch, until disposed. One at a time. */
  watch(): Disposable & { readonly touched: ReadonlySet<NodeId> } {
    const touched = new Set<NodeId>();
    this.#touched = touched;
    return {
      touched,
      [Symbol.dispose]: () => {
        this.#touched = undefined;
      },
    };
  }

  /** A collection has seen everything that was dirty. */
  collected(): void {
    this.#dirty = false;
  }

  async publish(ctx: Context, topic: string, event: Any): Promise<void> {
    await this.#publisher?.publish(ctx, topic, event);
  }

  /** A number never given before, across restarts too: it makes a backend's keys unique. */
  async nextSequence(): Promise<bigint> {
    while (this.#nextSequence === this.#sequenceEnd) {
      const end = await this.db.update((sql) => {
        const row = sql.get(
          `INSERT INTO sequences (name, value) VALUES ('backend', ?1)
           ON CONFLICT DO UPDATE SET value = value + ?1 RETURNING value`,
          sequenceBlock,
        );
        assert(row);
        return bigint(row, "value");
      });
      // Another caller may have fetched a block meanwhile; the later one is used and nothing is given twice.
      if (end > this.#sequenceEnd) {
        this.#sequenceEnd = end;
        this.#nextSequence = end - sequenceBlock;
      }
    }
    this.#nextSequence += 1n;
    return this.#nextSequence;
  }
}

export function backendKey(ns: string, sequence: bigint, key: string): string {
  return `${ns}/${sequence}/${key}`;
}
