import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import { chunksUnderWayMax, type ToWorker } from "#pkg/archive/tree-job.ts";

export interface JobStreams {
  /** The bytes a job works on, where it has no file. */
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  /** The file a job reads along, where it has neither bytes nor the path of a whole one. */
  readonly growing?: GrowingFile | undefined;
  /** Takes the bytes a job makes, in order, one call at a time. */
  readonly output?: ((chunk: Uint8Array) => Promise<void>) | undefined;
}

type Post = (message: ToWorker, transfer?: ArrayBuffer[]) => void;

/** Sends chunks as the worker takes them. */
export class Feeder {
  readonly #post: Post;
  readonly #stopping = Promise.withResolvers<"stopped">();
  #credits = chunksUnderWayMax;
  #stopped = false;
  #wake: (() => void) | undefined;

  constructor(post: Post) {
    this.#post = post;
  }

  async feed(input: AsyncIterable<Uint8Array>): Promise<void> {
    const chunks = input[Symbol.asyncIterator]();
    while (await this.#hasCredit()) {
      const next = await Promise.race([chunks.next(), this.#stopping.promise]);
      if (next === "stopped") break;
      if (next.done === true) return this.end();
      this.#credits--;
      // A copy: what the source gave may be part of a larger buffer that it goes on using.
      const copy = new Uint8Array(next.value);
      this.#post({ type: "chunk", chunk: copy }, [copy.buffer]);
    }
    this.end();
    // Not waited for: a source that hangs would hold the caller, whose context ends it.
    chunks.return?.().catch(() => undefined);
  }

  end(): void {
    this.#post({ type: "end" });
  }

  credit(): void {
    this.#credits++;
    this.#wake?.();
  }

  stop(): void {
    this.#stopped = true;
    this.#stopping.resolve("stopped");
    this.#wake?.();
  }

  async #hasCredit(): Promise<boolean> {
    while (this.#credits === 0 && !this.#stopped) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    return !this.#stopped;
  }
}

/** Hands a job's output on, in order. */
export class Drain {
  readonly #output: JobStreams["output"];
  readonly #on: { readonly credit: () => void; readonly failed: () => void };
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly reason: unknown } | undefined;

  constructor(output: JobStreams["output"], on: { credit: () => void; failed: () => void }) {
    this.#output = output;
    this.#on = on;
  }

  take(chunk: Uint8Array): void {
    this.#last = this.#last.then(async () => {
      try {
        if (!this.#failure) await this.#output?.(chunk);
      } catch (reason) {
        this.#failure = { reason };
        this.#on.failed();
      }
      this.#on.credit();
    });
  }

  async finish(): Promise<void> {
    await this.#last;
    // -- passed on as the taker threw it
    if (this.#failure) throw this.#failure.reason;
  }
}
