import type { ContentStore, ContentWriter, WriterOptions } from "#core/content/content.ts";
import { documentBytesMax } from "#core/images/manifest.ts";
import { refKey } from "#core/images/ref-key.ts";
import type { Fetcher } from "#core/remotes/remotes.ts";
import { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { Context } from "#pkg/context.ts";
import {
  failedPrecondition,
  hasCode,
  invalidArgument,
  isAlreadyExists,
  isNotFound,
} from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { isConfig, isIndex, isManifest } from "#pkg/media-types.ts";
import { freeBytes } from "#pkg/owned-bytes.ts";
import { pause } from "#pkg/retry.ts";

export interface FetchHooks {
  readonly onBytes: (offset: number) => void;
  /** As for `FetchBlob`. */
  readonly onArriving?: ((file: GrowingFile) => void) | undefined;
}

const lockedPauseMs = 50;
const lockedPauseMsMax = 2_000;

/**
 * Brings a piece of content into the store, going on where an earlier try ended.
 *
 * What turns out to be other bytes than the descriptor says is dropped, so that the next try begins anew. Throws what
 * the fetcher throws, and `failed-precondition` for bytes of another digest or a wrong size.
 */
export async function fetchContent(
  ctx: Context,
  content: ContentStore,
  fetcher: Fetcher,
  descriptor: ImageDescriptor,
  { onBytes, onArriving }: FetchHooks,
): Promise<"fetched" | "exists"> {
  const { digest, sizeBytes, mediaType, data } = descriptor;
  const what = `unable to fetch descriptor (${digest}) which reports`;
  if (sizeBytes === 0) throw invalidArgument(`${what} content size of zero`);
  if (sizeBytes < 0) throw invalidArgument(`${what} negative content size (${sizeBytes})`);
  if (sizeBytes > documentBytesMax && isDocument(mediaType)) {
    throw invalidArgument(
      `${what} content size of ${sizeBytes}, at most ${documentBytesMax} of ${mediaType}`,
    );
  }
  const ref = refKey(descriptor);
  try {
    const options = { ref, totalBytes: sizeBytes, expected: digest, mediaType };
    await using writer = await openWriter(ctx, content, options);
    let { offset } = writer.status();
    if (offset > sizeBytes) {
      await drop(ctx, content, writer, ref);
      throw failedPrecondition(`writer offset ${offset} exceeds expected size ${sizeBytes}`);
    }
    const chunks = data ? [data.subarray(offset)] : fetcher.fetch(ctx, descriptor, { offset });
    if (offset < sizeBytes) {
      using readers = new AlongReaders(writer, sizeBytes, onArriving);
      for await (const chunk of chunks) {
        await writer.write(chunk);
        offset += chunk.length;
        freeBytes(chunk);
        onBytes(offset);
        await readers.written(offset);
      }
      readers.whole();
    }
    await commit(ctx, content, writer, descriptor);
    return "fetched";
  } catch (error) {
    if (isAlreadyExists(error)) return "exists";
    throw error;
  }
}

/** What is parsed as a whole, and so is no larger than what one may be: nothing of it need be fetched to say so. */
function isDocument(mediaType: string): boolean {
  return isManifest(mediaType) || isIndex(mediaType) || isConfig(mediaType);
}

/** Those who read a blob while it is written; there are some from the first bytes on, if more are to come. */
class AlongReaders implements Disposable {
  readonly #writer: ContentWriter;
  readonly #sizeBytes: number;
  readonly #onArriving: FetchHooks["onArriving"];
  #file: GrowingFile | undefined;

  constructor(writer: ContentWriter, sizeBytes: number, onArriving: FetchHooks["onArriving"]) {
    this.#writer = writer;
    this.#sizeBytes = sizeBytes;
    this.#onArriving = onArriving;
  }

  async written(offset: number): Promise<void> {
    this.#file?.grown(offset);
    const { path } = this.#writer;
    if (this.#file || !this.#onArriving || path === undefined || offset >= this.#sizeBytes) return;
    this.#file = await GrowingFile.open(path, offset);
    this.#onArriving(this.#file);
  }

  whole(): void {
    this.#file?.ended("whole");
  }

  [Symbol.dispose](): void {
    this.#file?.ended("broken");
  }
}

async function commit(
  ctx: Context,
  content: ContentStore,
  writer: ContentWriter,
  descriptor: ImageDescriptor,
): Promise<void> {
  const { digest, sizeBytes } = descriptor;
  try {
    await writer.commit(ctx, { sizeBytes, expected: digest });
  } catch (error) {
    // Wrong bytes stay wrong: a resume would find them complete for ever.
    if (hasCode(error, "failed-precondition")) await drop(ctx, content, writer, refKey(descriptor));
    throw error;
  }
}

async function drop(
  ctx: Context,
  content: ContentStore,
  writer: ContentWriter,
  ref: string,
): Promise<void> {
  await writer.close();
  await content.abort(ctx.detached({ timeoutMs: 10_000 }), ref).catch((error: unknown) => {
    if (!isNotFound(error)) ctx.logger.warn("cannot drop an ingest", { ref, error });
  });
}

/** Waits while another client writes under the same ref: what it brings is what is wanted here. */
async function openWriter(
  ctx: Context,
  content: ContentStore,
  options: WriterOptions,
): Promise<ContentWriter> {
  for (let waitMs = lockedPauseMs; ; waitMs = Math.min(2 * waitMs, lockedPauseMsMax)) {
    try {
      return await content.writer(ctx, options);
    } catch (error) {
      if (!hasCode(error, "unavailable")) throw error;
    }
    await pause(ctx, waitMs);
  }
}
