import { randomUUID } from "node:crypto";
import type { CommitOptions, ContentStore, ContentWriter } from "#core/content/content.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { isAlreadyExists } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";

/** An ingest that nothing resumes: its ref is unlike any other, and what was left of it is dropped at the end. */
export async function withIngest<T>(
  ctx: Context,
  content: ContentStore,
  what: string,
  use: (writer: ContentWriter) => Promise<T>,
): Promise<T> {
  const ref = `${what}-${randomUUID()}`;
  await using writer = await content.writer(ctx, { ref });
  try {
    return await use(writer);
  } catch (error) {
    await writer.close();
    await content.abort(ctx.detached({ timeoutMs: 10_000 }), ref).catch((failure: unknown) => {
      ctx.logger.debug("cannot drop an ingest", { ref, error: failure });
    });
    throw error;
  }
}

/** Commits, under the writer's own digest where none is expected; a blob that is there already is as good. */
export async function commitBlob(
  ctx: Context,
  writer: ContentWriter,
  options: CommitOptions = {},
): Promise<Digest> {
  const digest = options.expected ?? writer.digest();
  try {
    return await writer.commit(ctx, { ...options, expected: digest });
  } catch (error) {
    if (isAlreadyExists(error)) return digest;
    throw error;
  }
}

/** Stores a document that was made here. */
export async function writeDocument(
  ctx: Context,
  content: ContentStore,
  document: object,
  mediaType: string,
  { indent = 0 }: { readonly indent?: number } = {},
): Promise<ImageDescriptor> {
  const bytes = Buffer.from(JSON.stringify(document, undefined, indent));
  const digest = digestOf(bytes);
  const ref = `manifest-${digest}-${randomUUID()}`;
  try {
    await using writer = await content.writer(ctx, {
      ref,
      totalBytes: bytes.length,
      expected: digest,
      mediaType,
    });
    await writer.write(bytes);
    await writer.commit(ctx, { sizeBytes: bytes.length, expected: digest });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
  return { mediaType, digest, sizeBytes: bytes.length, annotations: {} };
}
