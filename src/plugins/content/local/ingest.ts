import { createHash } from "node:crypto";
import {
  chmod,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { IngestStatus } from "#core/content/content.ts";
import { CodedError, isErrno, notFound } from "#pkg/errors.ts";
import { formatRfc3339, tryParseRfc3339, type UnixNanos } from "#pkg/time.ts";

/**
 * The directory of one ingest, `ingest/<sha256 of the ref>`: the files `ref`, `data`, `startedat`, `updatedat` and,
 * when the size is known, `total`, as upstream's. Ours is `durable`: how many first bytes of the data the disk has.
 */
export class IngestDir {
  readonly path: string;
  readonly data: string;
  readonly ref: string;

  constructor(ingestRoot: string, ref: string) {
    this.ref = ref;
    this.path = join(ingestRoot, ingestName(ref));
    this.data = join(this.path, "data");
  }

  /** Starts anew, dropping whatever was there. */
  async create(startedAt: UnixNanos, total: number): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
    await mkdir(this.path, { mode: 0o755 });
    await this.#land("startedat", formatRfc3339(startedAt));
    await this.#land("updatedat", formatRfc3339(startedAt));
    if (total > 0) await this.#land("total", String(total));
    await (await open(this.data, "w")).close();
    // Last: a directory without `ref` is one that never came to be, and the next start removes it.
    await this.#land("ref", this.ref);
  }

  async touch(updatedAt: UnixNanos): Promise<void> {
    await this.#land("updatedat", formatRfc3339(updatedAt));
  }

  /**
   * So many first bytes are synced: a resume after a power cut goes on behind them. The mark itself is on the disk when
   * this resolves.
   */
  async markDurable(sizeBytes: number): Promise<void> {
    await this.#land("durable", String(sizeBytes), { flush: true });
    await syncDirectory(this.path);
    await syncDirectory(dirname(this.path));
  }

  /** What was synced will be overwritten: a mark that outlived that would vouch for other bytes. */
  async unmarkDurable(): Promise<void> {
    const path = join(this.path, "durable");
    if ((await stat(path).catch(undefinedIfMissing)) === undefined) return;
    await rm(path);
    await syncDirectory(this.path);
  }

  /** Throws `not-found` when there is no such ingest, `data-loss` when its files make no sense. */
  async status(): Promise<IngestStatus> {
    return readStatus(this.path);
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  async #land(name: string, text: string, options: { flush?: boolean } = {}): Promise<void> {
    const path = join(this.path, name);
    await writeFile(`${path}.tmp`, text, options);
    await rename(`${path}.tmp`, path);
  }
}

/** After a power cut: what lies behind the synced bytes may be anything, so it goes. */
export async function dropUnsynced(path: string): Promise<void> {
  const text = await readFile(join(path, "durable"), "utf8").catch(undefinedIfMissing);
  // A mark that the power cut emptied vouches for nothing.
  const durableBytes = /^[0-9]+$/.test(text ?? "") ? Number(text) : 0;
  const data = join(path, "data");
  if ((await stat(data)).size <= durableBytes) return;
  // Read-only where the crash came in the middle of a commit.
  await chmod(data, 0o644);
  await truncate(data, durableBytes);
}

export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

/** Constant length, whatever clients choose as a ref. */
export function ingestName(ref: string): string {
  return createHash("sha256").update(ref).digest("hex");
}

export async function readStatus(path: string): Promise<IngestStatus> {
  const data = await stat(join(path, "data"), { bigint: true }).catch(missing(path));
  const ref = await readFile(join(path, "ref"), "utf8").catch(missing(path));
  const startedAt = await readTime(path, "startedat");
  const updatedAt = await readTime(path, "updatedat");
  return {
    ref,
    offset: Number(data.size),
    total: await readTotal(path),
    expected: undefined,
    startedAt,
    // `updatedat` is only written when a writer closes.
    updatedAt: data.mtimeNs > updatedAt ? data.mtimeNs : updatedAt,
  };
}

async function readTime(path: string, name: string): Promise<UnixNanos> {
  const text = await readFile(join(path, name), "utf8").catch(missing(path));
  const time = tryParseRfc3339(text);
  if (time !== undefined) return time;
  throw new CodedError("data-loss", `${join(path, name)}: no time: ${JSON.stringify(text)}`);
}

async function readTotal(path: string): Promise<number> {
  try {
    const total = Number(await readFile(join(path, "total"), "utf8"));
    return Number.isSafeInteger(total) ? total : 0;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return 0;
    throw error;
  }
}

function undefinedIfMissing(error: unknown): undefined {
  if (!isErrno(error, "ENOENT")) throw error;
}

function missing(path: string): (error: unknown) => never {
  return (error) => {
    if (isErrno(error, "ENOENT")) throw notFound(`ingest ${path}`, { cause: error });
    throw error;
  };
}
