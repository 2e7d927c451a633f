import { posix } from "node:path";
import type { ContentStore } from "#core/content/content.ts";
import { tarEvents } from "#core/images/tar-events.ts";
import { commitBlob } from "#core/images/write-blob.ts";
import { randomUUID } from "node:crypto";
import type { ContentWriter } from "#core/content/content.ts";
import { shown, type TarEntry } from "#pkg/archive/tar-entry.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, tryParseDigest } from "#pkg/digest.ts";
import { invalidArgument, wrap } from "#pkg/errors.ts";

/** Of a document that is kept in memory as a whole. */
const jsonBytesMax = 20 << 20;
const entriesMax = 100_000;
const symlinkHopsMax = 8;

export interface ArchivedBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** An image archive, taken apart: its files are content now, known by their own digests whatever their names say. */
export class TakenArchive {
  /** `oci-layout` and `manifest.json`, as they are. */
  readonly documents: Map<string, Buffer> = new Map();
  readonly #blobs = new Map<string, ArchivedBlob>();
  readonly #symlinks = new Map<string, string>();

  addBlob(name: string, blob: ArchivedBlob): void {
    this.#blobs.set(name, blob);
  }

  addSymlink(name: string, target: string): void {
    this.#symlinks.set(name, target);
  }

  /** Through symlinks, which old versions of `docker save` write for layers that occur twice. */
  find(name: string): ArchivedBlob | undefined {
    let at = name;
    for (let hops = 0; hops <= symlinkHopsMax; hops++) {
      const blob = this.#blobs.get(at);
      if (blob) return blob;
      const target = this.#symlinks.get(at);
      if (target === undefined) return undefined;
      at = target;
    }
    return undefined;
  }
}

const documentNames = new Set(["oci-layout", "manifest.json"]);

/** Reads a plain tar archive once, from front to back, storing each file in it. */
export async function takeArchive(
  ctx: Context,
  content: ContentStore,
  bytes: AsyncIterable<Buffer>,
): Promise<TakenArchive> {
  const archive = new TakenArchive();
  await using intake = new Intake(ctx, content, archive);
  for await (const events of tarEvents(bytes, { entriesMax })) {
    ctx.throwIfEnded();
    for (const event of events) {
      if (event.kind === "begin") await intake.begin(event.entry);
      else if (event.kind === "data") await intake.data(event.chunk);
      else await intake.end();
    }
  }
  return archive;
}

type Current =
  | { readonly kind: "document"; readonly name: string; readonly chunks: Buffer[] }
  | {
      readonly kind: "blob";
      readonly name: string;
      readonly ref: string;
      readonly writer: ContentWriter;
    };

/** Where the file being read goes. Disposed in the middle of one, it drops that. */
class Intake implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #content: ContentStore;
  readonly #archive: TakenArchive;
  #current: Current | undefined;
  #sizeBytes = 0;

  constructor(ctx: Context, content: ContentStore, archive: TakenArchive) {
    this.#ctx = ctx;
    this.#content = content;
    this.#archive = archive;
  }

  async begin(entry: TarEntry): Promise<void> {
    const name = nameOf(entry.name);
    this.#sizeBytes = entry.sizeBytes;
    if (entry.type === "symlink") {
      const target = posix.join(posix.dirname(name), nameOf(entry.linkName));
      this.#archive.addSymlink(name, target);
    }
    if (entry.type !== "file") return;
    if (entry.extents) throw invalidArgument(`${shown(entry.name)} is sparse`);
    if (documentNames.has(name)) {
      if (entry.sizeBytes > jsonBytesMax) {
        throw invalidArgument(`${name} of ${entry.sizeBytes} bytes, at most ${jsonBytesMax}`);
      }
      this.#current = { kind: "document", name, chunks: [] };
      return;
    }
    const ref = `tar-${randomUUID()}`;
    const writer = await this.#content.writer(this.#ctx, { ref, totalBytes: entry.sizeBytes });
    this.#current = { kind: "blob", name, ref, writer };
  }

  async data(chunk: Buffer): Promise<void> {
    const current = this.#current;
    if (current?.kind === "document") current.chunks.push(Buffer.from(chunk));
    else if (current) await current.writer.write(chunk);
  }

  async end(): Promise<void> {
    const current = this.#current;
    const sizeBytes = this.#sizeBytes;
    if (!current) return;
    if (current.kind === "document") {
      this.#archive.documents.set(current.name, Buffer.concat(current.chunks));
    } else {
      const expected = unusualDigest(current.name);
      const options = { sizeBytes, ...(expected && { expected }) };
      const digest = await commitBlob(this.#ctx, current.writer, options).catch(
        (error: unknown) => {
          throw wrap(`failed to ingest ${JSON.stringify(current.name)}`, error);
        },
      );
      this.#archive.addBlob(current.name, { digest, sizeBytes });
    }
    this.#current = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const current = this.#current;
    if (current?.kind !== "blob") return;
    this.#current = undefined;
    await current.writer.close();
    const ctx = this.#ctx.detached({ timeoutMs: 10_000 });
    await this.#content.abort(ctx, current.ref).catch((error: unknown) => {
      ctx.logger.debug("cannot drop an ingest", { ref: current.ref, error });
    });
  }
}

/** Of a layout's blob that is known by another hash than the store's own: its name is held against its bytes. */
function unusualDigest(name: string): Digest | undefined {
  const [, algorithm, hex] = /^blobs\/([a-z0-9]+)\/([0-9a-f]+)$/.exec(name) ?? [];
  return algorithm === "sha256" ? undefined : tryParseDigest(`${algorithm}:${hex}`);
}

/** Names in an archive are bytes; those of the files that documents name are UTF-8. */
function nameOf(name: string): string {
  return posix.normalize(Buffer.from(name, "latin1").toString("utf8")).replace(/(?<=.)\/$/, "");
}
