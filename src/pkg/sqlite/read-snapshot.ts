import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { SqlValue } from "#pkg/sqlite/sql.ts";

/**
 * One state of a database, read over several turns of the event loop while writers go on.
 *
 * Dispose it soon: as long as it is open the log cannot be emptied.
 */
export class ReadSnapshot implements Disposable {
  readonly #db: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(path: string) {
    this.#db = new DatabaseSync(path, { readOnly: true });
    // The state is fixed by the first read.
    this.#db.exec("BEGIN; SELECT 1 FROM sqlite_schema");
  }

  /** The first column of each row, integers that a number holds. Rows are fetched as they are asked for. */
  *numbers(sql: string, ...values: readonly SqlValue[]): Generator<number> {
    let statement = this.#prepared.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      statement.setReturnArrays(true);
      this.#prepared.set(sql, statement);
    }
    for (const row of statement.iterate(...values)) {
      const [value]: unknown[] = Object.values(row);
      if (typeof value !== "number") throw new TypeError(`not an integer: ${String(value)}`);
      yield value;
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
