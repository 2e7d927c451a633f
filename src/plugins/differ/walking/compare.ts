import { randomBytes } from "node:crypto";
import type { ContentInfo, ContentStore, ContentWriter } from "#core/content/content.ts";
import type { CompareOptions } from "#core/diff/diff.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Mounter } from "#core/mount/mounter.ts";
import type { Compression } from "#pkg/archive/compression.ts";
import type { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Digest } from "#pkg/digest.ts";
import {
  invalidArgument,
  isAlreadyExists,
  isNotFound,
  messageOf,
  notImplemented,
  wrap,
} from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { nowNanos } from "#pkg/time.ts";

export interface ComparerParts {
  readonly content: ContentStore;
  readonly mounter: Mounter;
  readonly workers: TreeWorkers;
}

const compressions: Readonly<Record<string, Compression>> = {
  "application/vnd.oci.image.layer.v1.tar": "none",
  "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
};
const defaultMediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
const uncompressedLabel = "containerd.io/uncompressed";
/** Dropping a failed upload goes on after its caller has given up. */
const abortTimeoutMs = 10_000;

/** Mounts both sides and writes what the upper one changed into the content store. */
export async function compareMounts(
  { content, mounter, workers }: ComparerParts,
  ctx: Context,
  lower: readonly Mount[],
  upper: readonly Mount[],
  options: CompareOptions,
): Promise<Descriptor> {
  const mediaType = options.mediaType ?? defaultMediaType;
  const compression = Object.hasOwn(compressions, mediaType) ? compressions[mediaType] : undefined;
  if (compression === undefined) throw notImplemented(`unsupported diff media type: ${mediaType}`);
  const mtimeMaxNs = options.sourceDateEpoch;
  if (mtimeMaxNs !== undefined && mtimeMaxNs < 0n) {
    throw invalidArgument(`source date epoch ${mtimeMaxNs} must be non-negative`);
  }
  return mounter.withTempMount(ctx, lower, (lowerRoot) => {
    return mounter.withReadOnlyTempMount(ctx, upper, async (upperRoot) => {
      return ingest(content, ctx, mediaType, options, async (writer) => {
        const trees = { lower: lowerRoot, upper: upperRoot };
        const job = { kind: "compare", ...trees, mtimeMaxNs, compression } as const;
        const output = (chunk: Uint8Array): Promise<void> => writer.write(chunk);
        const { diffId } = await workers.run(ctx, job, { output });
        // Upstream marks compressed layers only: a plain one is its own uncompressed form.
        return compression === "none" ? {} : { [uncompressedLabel]: diffId };
      });
    });
  });
}

async function ingest(
  content: ContentStore,
  ctx: Context,
  mediaType: string,
  options: CompareOptions,
  write: (writer: ContentWriter) => Promise<Labels>,
): Promise<Descriptor> {
  const ref = options.ref ?? `${nowNanos()}-${randomBytes(3).toString("base64url")}`;
  await using writer = await content.writer(ctx, { ref, mediaType }).catch((error: unknown) => {
    throw wrap("failed to open writer", error);
  });
  try {
    // An upload begun before with this ref is begun anew.
    if (options.ref !== undefined) await writer.truncate(0);
    const labels = await write(writer);
    const digest = await commit(ctx, writer, { ...options.labels, ...labels });
    const { sizeBytes } = await label(content, ctx, digest, labels);
    return { mediaType, digest, sizeBytes, annotations: {} };
  } catch (error) {
    await writer.close();
    // A ref that the caller named is the caller's to drop.
    if (options.ref === undefined) await drop(content, ctx, ref);
    throw wrap("failed to write diff", error);
  }
}

async function commit(ctx: Context, writer: ContentWriter, labels: Labels): Promise<Digest> {
  const expected = writer.digest();
  try {
    return await writer.commit(ctx, { expected, labels });
  } catch (error) {
    if (isAlreadyExists(error)) return expected;
    throw error;
  }
}

/** A blob that was there may lack the labels. */
async function label(
  content: ContentStore,
  ctx: Context,
  digest: Digest,
  labels: Labels,
): Promise<ContentInfo> {
  const info = await content.info(ctx, digest);
  const missing = Object.keys(labels).filter((key) => !Object.hasOwn(info.labels, key));
  if (missing.length === 0) return info;
  const fields = missing.map((key) => `labels.${key}`);
  return content.update(ctx, { digest, labels }, fields);
}

async function drop(content: ContentStore, ctx: Context, ref: string): Promise<void> {
  const undo = ctx.detached({ timeoutMs: abortTimeoutMs });
  await content.abort(undo, ref).catch((error: unknown) => {
    if (isNotFound(error)) return;
    ctx.logger.warn("failed to delete diff upload", { ref, error: messageOf(error) });
  });
}
