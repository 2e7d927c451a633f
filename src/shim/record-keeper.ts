import type { Failpoints } from "#pkg/failpoint.ts";
import type { Logger } from "#pkg/log.ts";
import { removeTaskRecord, type TaskRecord, writeTaskRecord } from "./task-record.ts";

/** For what may wait, since a successor would only tell the daemon what it has heard already. */
const soonMs = 100;
/** After a write that failed: the disk is full, or there are no descriptors left. */
const retryMs = 1_000;

export interface RecordKeeperOptions {
  readonly bundle: string;
  /** What the task is like at the moment of the call. */
  readonly record: () => TaskRecord;
  readonly logger: Logger;
  readonly failpoints: Failpoints;
}

/**
 * Keeps `task.json` as the task is: one write at a time, and one for all who wait for the next.
 *
 * A write that fails is tried again until one succeeds, whoever was told of the failure.
 */
export class RecordKeeper {
  readonly #options: RecordKeeperOptions;
  /** Never rejects. */
  #saving: Promise<void> = Promise.resolve();
  /** The last of `#saving`, while it has not begun. */
  #next: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #hasFailed = false;
  #isClosed = false;

  constructor(options: RecordKeeperOptions) {
    this.#options = options;
  }

  /** Resolves when a successor would know of it; rejects with what the disk says. */
  save(): Promise<void> {
    this.#next ??= this.#saving.then(() => this.#write());
    const save = this.#next;
    // -- who asked for it hears of the failure
    this.#saving = save.catch(() => {});
    return save;
  }

  /** For what has happened in any case: false where a successor does not know of it yet. */
  async trySave(): Promise<boolean> {
    try {
      await this.save();
      return true;
    } catch {
      return false; // -- logged, and tried again
    }
  }

  saveSoon(): void {
    this.#saveIn(soonMs);
  }

  /** Nothing is written once this resolves. Twice is once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#saving;
  }

  /** Closes it, and leaves no record. */
  async remove(): Promise<void> {
    await this.close();
    await removeTaskRecord(this.#options.bundle);
  }

  #saveIn(ms: number): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => void this.trySave(), ms).unref();
  }

  async #write(): Promise<void> {
    const { bundle, record, logger, failpoints } = this.#options;
    this.#next = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isClosed) return;
    try {
      failpoints.hit("shim.record");
      await writeTaskRecord(bundle, record());
    } catch (error) {
      // Of a disk that is full for an hour one line is enough.
      if (!this.#hasFailed) logger.error("failed to record task, trying again", { error, bundle });
      this.#hasFailed = true;
      this.#saveIn(retryMs);
      throw error;
    }
    if (this.#hasFailed) logger.info("task is recorded again", { bundle });
    this.#hasFailed = false;
  }
}
