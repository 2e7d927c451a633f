import { Content } from "#api/services/content/v1/content_pb.ts";
import type { ContentStore } from "#core/content/content.ts";
import { infoToWire, statusToWire } from "#core/content/convert.ts";
import type { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { CodedError, codeOf, invalidArgument, messageOf } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { toSafeInteger } from "#pkg/safe-integer.ts";
import { serveWrite } from "#plugins/services/content/write-service.ts";

const infosPerMessage = 100;

export function contentService(store: ContentStore): Service {
  return serve(Content, {
    async info(ctx, { digest }) {
      return { info: infoToWire(await store.info(ctx, parseDigest(digest))) };
    },
    async update(ctx, { info, updateMask }) {
      if (!info) throw invalidArgument("info is required");
      const given = { digest: parseDigest(info.digest), labels: info.labels };
      return { info: infoToWire(await store.update(ctx, given, updateMask?.paths)) };
    },
    async *list(ctx, { filters }) {
      let block: ReturnType<typeof infoToWire>[] = [];
      for await (const info of store.list(ctx, filters)) {
        block.push(infoToWire(info));
        if (block.length < infosPerMessage) continue;
        yield { info: block };
        block = [];
      }
      if (block.length > 0) yield { info: block };
    },
    async delete(ctx, { digest }) {
      await store.delete(ctx, parseDigest(digest));
      return {};
    },
    read: (ctx, request) => read(store, ctx, request),
    async status(ctx, { ref }) {
      try {
        return { status: statusToWire(await store.status(ctx, ref)) };
      } catch (error) {
        const what = `could not get status for ref ${JSON.stringify(ref)}`;
        throw new CodedError(codeOf(error), `${what}: ${messageOf(error)}`, { cause: error });
      }
    },
    async listStatuses(ctx, { filters }) {
      return { statuses: (await store.listStatuses(ctx, filters)).map(statusToWire) };
    },
    write: (ctx, requests) => serveWrite(store, ctx, requests),
    async abort(ctx, { ref }) {
      await store.abort(ctx, ref);
      return {};
    },
  });
}

async function* read(
  store: ContentStore,
  ctx: Context,
  request: { digest: string; offset: bigint; size: bigint },
): AsyncGenerator<{ offset: bigint; data: Uint8Array }> {
  const digest = parseDigest(request.digest);
  await using reader = await store.open(ctx, digest);
  const offset = Math.max(0, toSafeInteger(request.offset, "offset"));
  if (offset > reader.sizeBytes) {
    throw new CodedError("out-of-range", `read past object length ${reader.sizeBytes} bytes`);
  }
  const size = toSafeInteger(request.size, "size");
  const left = reader.sizeBytes - offset;
  const length = size <= 0 ? left : Math.min(size, left);
  // Offsets count from the start of the answer, not of the blob: what upstream sends and clients ignore.
  let sent = 0n;
  for await (const data of reader.stream({ offset, length })) {
    yield { offset: sent, data };
    sent += BigInt(data.length);
  }
}
