import { DatabaseSync, type StatementSync } from "node:sqlite";
import { CodedError } from "#pkg/errors.ts";
import { type Row, text } from "#pkg/sqlite/row.ts";
import { Sql, type SqlValue } from "#pkg/sqlite/sql.ts";

/**
 * One state of a database, read over several turns of the event loop while writers go on.
 *
 * Dispose it soon: as long as it is open the log cannot be emptied.
 */
export class ReadSnapshot implements Disposable {
  readonly #db: DatabaseSync;
  readonly #sql: Sql;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(path: string) {
    this.#db = new DatabaseSync(path, { readOnly: true });
    this.#sql = new Sql(this.#db);
    // The state is fixed by the first read.
    this.#db.exec("BEGIN; SELECT 1 FROM sqlite_schema");
  }

  /**
   * The one column of a query, integers that a number holds, all at once: as one text, since to fetch a row costs many
   * times what reading it does.
   */
  numbers(query: string, ...values: readonly SqlValue[]): readonly number[] {
    let statement = this.#prepared.get(query);
    if (!statement) {
      statement = this.#db.prepare(`SELECT json_group_array(value) AS list FROM (${query})`);
      this.#prepared.set(query, statement);
    }
    const list: unknown = JSON.parse(text(statement.get(...values) ?? {}, "list"));
    if (isIntegers(list)) return list;
    throw new CodedError("data-loss", `database query ${query}: not all integers`);
  }

  /** For what is not asked for by the thousand. */
  rows(query: string, ...values: readonly SqlValue[]): Row[] {
    return this.#sql.all(query, ...values);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

function isIntegers(list: unknown): list is readonly number[] {
  return Array.isArray(list) && list.every(Number.isSafeInteger);
}
