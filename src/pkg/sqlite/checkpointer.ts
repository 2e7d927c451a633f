import { once } from "node:events";
import type { DatabaseSync } from "node:sqlite";
import { Worker } from "node:worker_threads";

/** The log is looked at after this many commits, and copied when it holds this many pages. */
const commitsBetweenLooks = 64;
const pagesToCopy = 1000;

/**
 * Copies the write-ahead log into the database on a thread of its own, since that syncs twice.
 *
 * The thread lives for one checkpoint: it is needed rarely, and an idle Node thread holds memory. A checkpoint that
 * fails is harmless: nothing is lost, the log grows, and the next look tries again.
 */
export class Checkpointer implements AsyncDisposable {
  readonly #path: string;
  readonly #db: DatabaseSync;
  #commits = 0;
  #running: Promise<void> | undefined;

  constructor(path: string, db: DatabaseSync) {
    this.#path = path;
    this.#db = db;
  }

  committed(): void {
    this.#commits++;
    if (this.#commits < commitsBetweenLooks || this.#running) return;
    this.#commits = 0;
    if (this.#pending() < pagesToCopy) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running;
  }

  #pending(): number {
    const row = this.#db.prepare("PRAGMA wal_checkpoint(NOOP)").get();
    return Number(row?.["log"] ?? 0) - Number(row?.["checkpointed"] ?? 0);
  }

  async #run(): Promise<void> {
    const worker = new Worker(new URL("./checkpoint-worker.ts", import.meta.url), {
      workerData: this.#path,
    });
    // An `error` is followed by `exit`; without a listener it would end the process.
    worker.on("error", () => {});
    await once(worker, "exit");
  }
}
