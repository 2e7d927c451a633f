import type { FileHandle } from "node:fs/promises";
import type { CommitOptions, ContentWriter, IngestStatus } from "#core/content/content.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, Digester, digestAlgorithm } from "#pkg/digest.ts";
import { CodedError, failedPrecondition, isErrno, notImplemented, wrap } from "#pkg/errors.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import type { IngestDir } from "#plugins/content/local/ingest.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";

/** Hashed at a time: a millisecond of the event loop. */
const sliceBytes = 1 << 20;
/** Synced while more comes, so that a commit does not wait for the whole blob to reach the disk. */
const syncBytes = 32 << 20;

/** What the store does for its writers. */
export interface WriterHost {
  readonly failpoints: Failpoints;
  /** Puts the ingest's synced data under its digest. Throws `already-exists`, having dropped the ingest. */
  publish(ctx: Context, ingest: IngestDir, blob: BlobFile): Promise<void>;
  unlock(ref: string): void;
}

export interface BlobFile {
  readonly file: FileHandle;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export class LocalContentWriter implements ContentWriter {
  readonly #host: WriterHost;
  readonly #ingest: IngestDir;
  readonly #startedAt: UnixNanos;
  readonly #total: number;
  #file: FileHandle | undefined;
  #digester: Digester;
  #algorithm: string;
  #offset: number;
  #updatedAt: UnixNanos;
  #failure: CodedError | undefined;
  /** Ends of the operations so far: they run one after another. */
  #tail: Promise<void> = Promise.resolve();
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  /** Some of what was written the disk may never get; which, the kernel does not say. */
  #isLossy = false;

  constructor(
    host: WriterHost,
    ingest: IngestDir,
    state: { file: FileHandle; status: IngestStatus; digester: Digester; algorithm: string },
  ) {
    this.#host = host;
    this.#ingest = ingest;
    this.#file = state.file;
    this.#digester = state.digester;
    this.#algorithm = state.algorithm;
    this.#offset = state.status.offset;
    this.#total = state.status.total;
    this.#startedAt = state.status.startedAt;
    this.#updatedAt = state.status.updatedAt;
  }

  status(): IngestStatus {
    return {
      ref: this.#ingest.ref,
      offset: this.#offset,
      total: this.#total,
      expected: undefined,
      startedAt: this.#startedAt,
      updatedAt: this.#updatedAt,
    };
  }

  get path(): string {
    return this.#ingest.data;
  }

  digest(): Digest {
    return this.#digester.digest();
  }

  write(data: Uint8Array): Promise<void> {
    return this.#inTurn(async (file) => {
      for (let at = 0; at < data.length; at += sliceBytes) {
        const slice = data.subarray(at, at + sliceBytes);
        const written = writeAll(file, slice, this.#offset);
        // Hashed while the pool writes; when the write fails this writer is done for and nobody reads the digest.
        this.#digester.update(slice);
        await written;
        this.#offset += slice.length;
        this.#syncAhead(file, slice.length);
      }
      this.#updatedAt = nowNanos();
    });
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#inTurn(async (file) => {
      if (sizeBytes !== 0) throw notImplemented(`truncate to ${sizeBytes} bytes`);
      await this.#syncing;
      await this.#ingest.unmarkDurable();
      await file.truncate(0);
      this.#offset = 0;
      this.#digester = new Digester(this.#algorithm);
      this.#updatedAt = nowNanos();
    });
  }

  async commit(ctx: Context, options: CommitOptions = {}): Promise<Digest> {
    const file = await this.#take();
    if (!file) throw failedPrecondition("cannot commit on closed writer");
    try {
      if (this.#failure) throw this.#failure;
      this.#host.failpoints.hit("content.before-sync");
      await this.#sync(file);
      this.#host.failpoints.hit("content.after-sync");
      const digest = await this.#verify(file, options);
      await this.#host.publish(ctx, this.#ingest, { file, digest, sizeBytes: this.#offset });
      return digest;
    } finally {
      await this.#release(file);
    }
  }

  async close(): Promise<void> {
    const file = await this.#take();
    if (!file) return;
    try {
      // So that a resume after a power cut finds what the client was told is held.
      if (!this.#isLossy) {
        await this.#sync(file);
        await this.#ingest.markDurable(this.#offset);
      }
      await this.#ingest.touch(this.#updatedAt);
    } catch (error) {
      // The directory is gone when the ingest was aborted meanwhile.
      if (!isErrno(error, "ENOENT")) throw error;
    } finally {
      await this.#release(file);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #verify(file: FileHandle, options: CommitOptions): Promise<Digest> {
    const { sizeBytes, expected } = options;
    if (sizeBytes !== undefined && sizeBytes > 0 && sizeBytes !== this.#offset) {
      throw failedPrecondition(`unexpected commit size ${this.#offset}, expected ${sizeBytes}`);
    }
    if (expected !== undefined && digestAlgorithm(expected) !== this.#algorithm) {
      this.#algorithm = digestAlgorithm(expected);
      this.#digester = await hashFile(file, this.#offset, this.#algorithm);
    }
    const digest = this.#digester.digest();
    if (expected !== undefined && expected !== digest) {
      throw failedPrecondition(`unexpected commit digest ${digest}, expected ${expected}`);
    }
    return digest;
  }

  /** One at a time, waited for by nobody but the end of the writer; a failure fails the writer. */
  #syncAhead(file: FileHandle, writtenBytes: number): void {
    this.#unsyncedBytes += writtenBytes;
    if (this.#unsyncedBytes < syncBytes || this.#syncing) return;
    this.#unsyncedBytes = 0;
    this.#syncing = this.#syncAndMark(file, this.#offset).then(
      () => {
        this.#syncing = undefined;
      },
      (error: unknown) => {
        this.#failure ??= wrap("sync content", error);
      },
    );
  }

  async #syncAndMark(file: FileHandle, sizeBytes: number): Promise<void> {
    await this.#sync(file);
    try {
      await this.#ingest.markDurable(sizeBytes);
    } catch (error) {
      // An ingest that was aborted meanwhile: its commit will say so.
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }

  async #sync(file: FileHandle): Promise<void> {
    try {
      await file.datasync();
    } catch (error) {
      // Not tried again: what the kernel could not write it may already have forgotten.
      this.#isLossy = true;
      throw error;
    }
  }

  async #release(file: FileHandle): Promise<void> {
    try {
      if (!this.#isLossy) return;
      // Whoever resumed would find all the bytes with the kernel, and no later sync would fail: they begin anew.
      await this.#ingest.unmarkDurable();
      await file.truncate(0);
    } finally {
      await file.close();
      this.#host.unlock(this.#ingest.ref);
    }
  }

  /** Ends the writer's use once what is under way has ended. */
  async #take(): Promise<FileHandle | undefined> {
    const file = this.#file;
    this.#file = undefined;
    await this.#tail;
    await this.#syncing;
    return file;
  }

  #inTurn(step: (file: FileHandle) => Promise<void>): Promise<void> {
    const file = this.#file;
    if (!file) return Promise.reject(failedPrecondition("cannot write to closed writer"));
    const done = this.#tail.then(async () => {
      if (this.#failure) throw this.#failure;
      await step(file);
    });
    this.#tail = done.catch((error: unknown) => {
      if (!isNotImplemented(error)) this.#failure ??= wrap("write content", error);
    });
    return done;
  }
}

function isNotImplemented(error: unknown): boolean {
  return error instanceof CodedError && error.code === "not-implemented";
}

async function writeAll(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  try {
    let done = 0;
    while (done < data.length) {
      const { bytesWritten } = await file.write(data, done, data.length - done, offset + done);
      done += bytesWritten;
    }
  } catch (error) {
    if (!isErrno(error, "ENOSPC", "EDQUOT")) throw error;
    throw new CodedError("resource-exhausted", "no space left on device", {
      cause: error,
    });
  }
}

/** Hashes the first `length` bytes, a slice at a time, yielding the event loop at each. */
export async function hashFile(
  file: FileHandle,
  length: number,
  algorithm: string,
): Promise<Digester> {
  const digester = new Digester(algorithm);
  const buffer = Buffer.allocUnsafeSlow(Math.min(sliceBytes, length));
  for (let at = 0; at < length; ) {
    const wanted = Math.min(buffer.length, length - at);
    const { bytesRead } = await file.read(buffer, 0, wanted, at);
    if (bytesRead === 0) {
      throw new CodedError("data-loss", `ingest ended at ${at} of ${length} bytes`);
    }
    digester.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return digester;
}
