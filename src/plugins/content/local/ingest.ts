import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { IngestStatus } from "#core/content/content.ts";
import { CodedError, isErrno, notFound } from "#pkg/errors.ts";
import { formatRfc3339, tryParseRfc3339, type UnixNanos } from "#pkg/time.ts";

/**
 * The directory of one ingest, `ingest/<sha256 of the ref>`: the files `ref`, `data`, `startedat`, `updatedat` and,
 * when the size is known, `total`.
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

  /** Throws `not-found` when there is no such ingest, `data-loss` when its files make no sense. */
  async status(): Promise<IngestStatus> {
    return readStatus(this.path);
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  async #land(name: string, text: string): Promise<void> {
    const path = join(this.path, name);
    await writeFile(`${path}.tmp`, text);
    await rename(`${path}.tmp`, path);
  }
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

function missing(path: string): (error: unknown) => never {
  return (error) => {
    if (isErrno(error, "ENOENT")) throw notFound(`ingest ${path}`, { cause: error });
    throw error;
  };
}
