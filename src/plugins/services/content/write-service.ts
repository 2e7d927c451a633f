import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import {
  WriteAction,
  type WriteContentRequestSchema,
  type WriteContentResponseSchema,
} from "#api/services/content/v1/content_pb.ts";
import type { ContentStore, ContentWriter } from "#core/content/content.ts";
import { digestFromWire } from "#core/content/convert.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { CodedError, isNotFound } from "#pkg/errors.ts";
import { freeBytes } from "#pkg/owned-bytes.ts";
import { toSize } from "#pkg/safe-integer.ts";
import { nanosToTimestamp } from "#pkg/time.ts";

type Request = MessageShape<typeof WriteContentRequestSchema>;
type Response = MessageInitShape<typeof WriteContentResponseSchema>;

/** What the client said it expects; later messages may say it for the first time or correct it. */
interface Expectation {
  total: number;
  digest: Digest | undefined;
}

/**
 * The stream that writes one blob. The writer, and with it the ref's lock, lives as long as the stream; a client that
 * goes away leaves the ingest for its next try.
 */
export async function* serveWrite(
  store: ContentStore,
  ctx: Context,
  requests: AsyncIterable<Request>,
): AsyncGenerator<Response> {
  const iterator = requests[Symbol.asyncIterator]();
  try {
    const first = await iterator.next();
    if (first.done || first.value.ref === "") {
      throw new CodedError("invalid-argument", "first message must have a reference");
    }
    const { ref } = first.value;
    const expect: Expectation = {
      total: toSize(first.value.total, "total"),
      digest: digestFromWire(first.value.expected),
    };
    await using writer = await store.writer(ctx, {
      ref,
      totalBytes: expect.total,
      expected: expect.digest,
    });
    for (let item: IteratorResult<Request> = first; !item.done; item = await iterator.next()) {
      await learn(store, ctx, { ref, writer, request: item.value, expect });
      yield await answer(ctx, writer, item.value, expect);
      if (item.value.action === WriteAction.COMMIT) return;
    }
  } finally {
    await iterator.return?.();
  }
}

/** Takes what the message says it expects; when the blob is there already, the ingest is dropped. */
async function learn(
  store: ContentStore,
  ctx: Context,
  call: { ref: string; writer: ContentWriter; request: Request; expect: Expectation },
): Promise<void> {
  const { ref, writer, request, expect } = call;
  if (request.total !== 0n) expect.total = toSize(request.total, "total");
  const digest = digestFromWire(request.expected);
  if (digest === undefined) return;
  expect.digest = digest;
  try {
    await store.info(ctx, digest);
  } catch (error) {
    if (isNotFound(error)) return;
    throw error;
  }
  await writer.close();
  try {
    await store.abort(ctx, ref);
  } catch (error) {
    // Who brought the blob may have ended this ref's ingest with it.
    if (!isNotFound(error)) ctx.logger.error("failed to abort write", { ref, error });
  }
  throw new CodedError("already-exists", `blob with expected digest ${digest} exists`);
}

async function answer(
  ctx: Context,
  writer: ContentWriter,
  request: Request,
  expect: Expectation,
): Promise<Response> {
  const { action } = request;
  switch (action) {
    case WriteAction.STAT: {
      const { offset, startedAt, updatedAt } = writer.status();
      return {
        action,
        offset: BigInt(offset),
        total: BigInt(expect.total),
        digest: writer.digest(),
        startedAt: nanosToTimestamp(startedAt),
        updatedAt: nanosToTimestamp(updatedAt),
      };
    }
    case WriteAction.WRITE:
      await write(writer, request);
      return { action, offset: BigInt(writer.status().offset), digest: writer.digest() };
    case WriteAction.COMMIT: {
      await write(writer, request);
      const { offset } = writer.status();
      const digest = await writer.commit(ctx, {
        sizeBytes: expect.total,
        expected: expect.digest,
        labels: request.labels,
      });
      return { action, offset: BigInt(offset), digest };
    }
    default:
      throw new CodedError("invalid-argument", `unknown write action ${String(action)}`);
  }
}

async function write(writer: ContentWriter, request: Request): Promise<void> {
  const held = writer.status().offset;
  const offset = toSize(request.offset, "offset");
  if (offset > 0 && offset !== held) {
    throw new CodedError("out-of-range", `write @${offset} must occur at current offset ${held}`);
  }
  if (offset === 0 && held > 0) await writer.truncate(0);
  if (request.data.length === 0) return;
  await writer.write(request.data);
  freeBytes(request.data);
}
