import {
  chmod,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { basename, join } from "node:path";
import type {
  ContentInfo,
  ContentReader,
  ContentStore,
  ContentWriter,
  IngestStatus,
  WriterOptions,
} from "#core/content/content.ts";
import { contentField, statusField } from "#core/content/filter-fields.ts";
import { Coalescer } from "#pkg/coalescer.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, Digester, digestAlgorithm, digestHex, tryParseDigest } from "#pkg/digest.ts";
import { formatDuration } from "#pkg/duration.ts";
import {
  alreadyExists,
  CodedError,
  failedPrecondition,
  hasCode,
  invalidArgument,
  isErrno,
  isNotFound,
  notFound,
  unavailable,
} from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { formatRfc3339, nowNanos, type UnixNanos } from "#pkg/time.ts";
import {
  dropUnsynced,
  IngestDir,
  ingestName,
  readStatus,
  syncDirectory,
} from "#plugins/content/local/ingest.ts";
import { LocalContentReader } from "#plugins/content/local/local-reader.ts";
import {
  type BlobFile,
  hashFile,
  LocalContentWriter,
  type WriterHost,
} from "#plugins/content/local/local-writer.ts";

const statsAtOnce = 16;
const algorithms = ["sha256", "sha384", "sha512"];

/**
 * Blobs as files, `blobs/<algorithm>/<hex>`, and ingests as directories beside them: upstream's layout.
 *
 * Without namespaces and without labels: `update` throws `failed-precondition`. One process at a time may use a root;
 * the metadata database over it sees to that.
 */
export class LocalContentStore implements ContentStore, AsyncDisposable {
  readonly #root: string;
  readonly #ingests: string;
  readonly #failpoints: Failpoints;
  readonly #locks = new Map<string, UnixNanos>();
  readonly #digests = new KeyedMutex();
  readonly #directorySyncs = new Map<string, Coalescer<void>>();

  private constructor(root: string, failpoints: Failpoints) {
    this.#root = root;
    this.#ingests = join(root, "ingest");
    this.#failpoints = failpoints;
  }

  /** Makes the root where it is missing, and removes ingests whose start was cut short. */
  static async open(
    root: string,
    options: { failpoints?: Failpoints | undefined; bootId?: string | undefined } = {},
  ): Promise<LocalContentStore> {
    const store = new LocalContentStore(root, options.failpoints ?? noFailpoints);
    await mkdir(store.#ingests, { recursive: true, mode: 0o755 });
    await mkdir(join(root, "blobs", "sha256"), { recursive: true, mode: 0o755 });
    // A process that was killed may have left a blob whose name the disk does not have yet.
    const known = (await namesIn(join(root, "blobs"))).map((name) => join(root, "blobs", name));
    for (const path of [...known, join(root, "blobs"), root]) await syncDirectory(path);
    await store.#removeBrokenIngests();
    await store.#settleAfterBoot(options.bootId ?? (await readBootId()));
    return store;
  }

  async info(_ctx: Context, digest: Digest): Promise<ContentInfo> {
    try {
      const file = await stat(this.#blobPath(digest), { bigint: true });
      return {
        digest,
        sizeBytes: Number(file.size),
        createdAt: file.mtimeNs,
        updatedAt: file.atimeNs > file.mtimeNs ? file.atimeNs : file.mtimeNs,
        labels: {},
      };
    } catch (error) {
      if (isErrno(error, "ENOENT")) throw notFound(`content ${digest}`, { cause: error });
      throw error;
    }
  }

  async update(): Promise<ContentInfo> {
    throw failedPrecondition("update not supported on immutable content store");
  }

  async *list(ctx: Context, filters?: readonly string[]): AsyncGenerator<ContentInfo> {
    const matches = parseFilters(filters);
    for (const algorithm of algorithms) {
      const digests = (await namesIn(join(this.#root, "blobs", algorithm)))
        .map((hex) => tryParseDigest(`${algorithm}:${hex}`))
        .filter((digest) => digest !== undefined);
      for (let i = 0; i < digests.length; i += statsAtOnce) {
        ctx.throwIfEnded();
        const batch = digests.slice(i, i + statsAtOnce).map((d) => this.#infoIfThere(ctx, d));
        for (const info of await Promise.all(batch)) {
          if (info && matches(contentField(info))) yield info;
        }
      }
    }
  }

  async delete(_ctx: Context, digest: Digest): Promise<void> {
    try {
      await unlink(this.#blobPath(digest));
    } catch (error) {
      if (isErrno(error, "ENOENT")) throw notFound(`content ${digest}`, { cause: error });
      throw error;
    }
  }

  async open(_ctx: Context, digest: Digest): Promise<ContentReader> {
    const path = this.#blobPath(digest);
    await using stack = new AsyncDisposableStack();
    try {
      const file = stack.use(await open(path, "r"));
      const reader = new LocalContentReader(file, path, (await file.stat()).size);
      stack.move();
      return reader;
    } catch (error) {
      if (isErrno(error, "ENOENT")) throw notFound(`content ${digest}`, { cause: error });
      throw error;
    }
  }

  async status(_ctx: Context, ref: string): Promise<IngestStatus> {
    return new IngestDir(this.#ingests, ref).status();
  }

  async listStatuses(_ctx: Context, filters?: readonly string[]): Promise<readonly IngestStatus[]> {
    const matches = parseFilters(filters);
    const statuses: IngestStatus[] = [];
    for (const name of await namesIn(this.#ingests)) {
      try {
        const status = await readStatus(join(this.#ingests, name));
        if (matches(statusField(status))) statuses.push(status);
      } catch (error) {
        // Committed or aborted while this list was made.
        if (!isNotFound(error)) throw error;
      }
    }
    return statuses.toSorted((a, b) => (a.ref < b.ref ? -1 : 1));
  }

  async abort(_ctx: Context, ref: string): Promise<void> {
    const ingest = new IngestDir(this.#ingests, ref);
    await stat(ingest.path).catch((error: unknown) => {
      if (isErrno(error, "ENOENT")) throw notFound(`ingest ref ${JSON.stringify(ref)}`);
      throw error;
    });
    await ingest.remove();
  }

  async writer(ctx: Context, options: WriterOptions): Promise<ContentWriter> {
    const { ref, totalBytes = 0, expected } = options;
    if (ref === "") throw invalidArgument("ref must not be empty");
    if (expected !== undefined && (await this.#infoIfThere(ctx, expected))) {
      throw alreadyExists(`content ${expected}`);
    }
    this.#lock(ref);
    try {
      const algorithm = expected === undefined ? "sha256" : digestAlgorithm(expected);
      return await this.#openWriter(ctx, new IngestDir(this.#ingests, ref), totalBytes, algorithm);
    } catch (error) {
      this.#locks.delete(ref);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#directorySyncs.values().map((sync) => sync.idle()));
  }

  async #openWriter(
    ctx: Context,
    ingest: IngestDir,
    totalBytes: number,
    algorithm: string,
  ): Promise<ContentWriter> {
    await using stack = new AsyncDisposableStack();
    let status = await this.#resumable(ctx, ingest, totalBytes);
    if (!status) {
      const startedAt = nowNanos();
      await ingest.create(startedAt, totalBytes);
      status = await ingest.status();
    }
    const file = stack.use(await openData(ingest.data));
    const digester =
      status.offset === 0
        ? new Digester(algorithm)
        : await hashFile(file, status.offset, algorithm);
    const writer = new LocalContentWriter(this.#host(), ingest, {
      file,
      status,
      digester,
      algorithm,
    });
    stack.move();
    return writer;
  }

  async #resumable(
    ctx: Context,
    ingest: IngestDir,
    totalBytes: number,
  ): Promise<IngestStatus | undefined> {
    try {
      const status = await ingest.status();
      if (status.ref !== ingest.ref) return;
      if (totalBytes > 0 && status.total > 0 && status.total !== totalBytes) return;
      return status;
    } catch (error) {
      if (isNotFound(error)) return;
      if (!(error instanceof CodedError)) throw error;
      ctx.logger.info(`failed to resume ingest ${ingest.path}, starting anew`, { error });
      return;
    }
  }

  #host(): WriterHost {
    return {
      failpoints: this.#failpoints,
      publish: (ctx, ingest, blob) => this.#publish(ctx, ingest, blob),
      unlock: (ref) => this.#locks.delete(ref),
    };
  }

  async #publish(ctx: Context, ingest: IngestDir, blob: BlobFile): Promise<void> {
    const target = this.#blobPath(blob.digest);
    const directory = join(this.#root, "blobs", digestAlgorithm(blob.digest));
    using _lock = await this.#digests.acquire(blob.digest, ctx.signal);
    const there = await this.#infoIfThere(ctx, blob.digest);
    if (there?.sizeBytes === blob.sizeBytes) {
      await ingest.remove();
      throw alreadyExists(`content ${blob.digest}`);
    }
    // A blob of another size is what a power cut or a full disk left: the good one replaces it.
    if (there) ctx.logger.warn(`content ${blob.digest} was damaged and is replaced`);
    if ((await mkdir(directory, { recursive: true, mode: 0o755 })) !== undefined) {
      await syncDirectory(join(this.#root, "blobs"));
    }
    // Read-only before it has its name, so that no blob is ever writable. A crash between the two leaves a read-only
    // ingest, which `openData` makes writable again.
    await blob.file.chmod(0o444);
    await rename(ingest.data, target).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
      throw notFound(`ingest ref ${JSON.stringify(ingest.ref)} was aborted`, { cause: error });
    });
    this.#failpoints.hit("content.after-rename");
    await this.#syncShared(directory);
    this.#failpoints.hit("content.after-directory-sync");
    const now = new Date();
    await utimes(target, now, now);
    await ingest.remove();
    this.#failpoints.hit("content.after-ingest-removed");
  }

  #lock(ref: string): void {
    const since = this.#locks.get(ref);
    const now = nowNanos();
    if (since !== undefined) {
      const held = formatDuration(Number(now - since) / 1e6);
      throw unavailable(`ref ${ref} locked for ${held} (since ${formatRfc3339(since)})`);
    }
    this.#locks.set(ref, now);
  }

  async #infoIfThere(ctx: Context, digest: Digest): Promise<ContentInfo | undefined> {
    try {
      return await this.info(ctx, digest);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
  }

  #syncShared(directory: string): Promise<void> {
    const sync =
      this.#directorySyncs.get(directory) ?? new Coalescer(() => syncDirectory(directory));
    this.#directorySyncs.set(directory, sync);
    return sync.run();
  }

  /**
   * A crash leaves an ingest whose start was cut short, or whose data has become a blob; a power cut leaves files of it
   * empty. Nobody could go on with one, and nothing else would ever remove it.
   */
  async #removeBrokenIngests(): Promise<void> {
    for (const name of await namesIn(this.#ingests)) {
      const path = join(this.#ingests, name);
      if (await isWhole(path)) continue;
      await rm(path, { recursive: true, force: true });
    }
  }

  /**
   * A process that was killed leaves what it wrote to the kernel; a machine that stopped leaves what was synced. Only
   * what the disk is known to have is gone on with after the latter. Noted last: cut short, it is done again.
   */
  async #settleAfterBoot(bootId: string): Promise<void> {
    const path = join(this.#root, "boot-id");
    const noted = await readFile(path, "utf8").catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
    if (bootId !== "" && noted === bootId) return;
    for (const name of await namesIn(this.#ingests)) await dropUnsynced(join(this.#ingests, name));
    await writeFile(path, bootId);
  }

  #blobPath(digest: Digest): string {
    return join(this.#root, "blobs", digestAlgorithm(digest), digestHex(digest));
  }
}

async function openData(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r+");
  } catch (error) {
    if (!isErrno(error, "EACCES")) throw error;
    await chmod(path, 0o644);
    return open(path, "r+");
  }
}

/** Whether an ingest's directory says what it must. */
async function isWhole(path: string): Promise<boolean> {
  try {
    const { ref } = await readStatus(path);
    return ingestName(ref) === basename(path);
  } catch (error) {
    if (isNotFound(error) || hasCode(error, "data-loss") || isErrno(error, "ENOTDIR")) return false;
    throw error;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Names this run of the kernel; empty where it cannot be told, which is never the same again. */
async function readBootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "")).trim();
}
