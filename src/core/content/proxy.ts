import { Content } from "#api/services/content/v1/content_pb.ts";
import type {
  ContentInfo,
  ContentReader,
  ContentStore,
  ContentWriter,
  IngestStatus,
  WriterOptions,
} from "#core/content/content.ts";
import { infoFromWire, statusFromWire } from "#core/content/convert.ts";
import { openProxyWriter } from "#core/content/proxy-writer.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { CodedError, outOfRange } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

const chunkBytes = 1 << 20;

/** A content store at the other end of a connection, which stays the caller's. */
export class ProxyContentStore implements ContentStore {
  readonly #client: Client<typeof Content>;

  constructor(transport: Transport) {
    this.#client = createClient(Content, transport);
  }

  async info(ctx: Context, digest: Digest): Promise<ContentInfo> {
    const { info } = await this.#client.info(ctx, { digest });
    return infoFromWire(required(info, "info"));
  }

  async update(
    ctx: Context,
    given: { readonly digest: Digest; readonly labels: Labels },
    fields: readonly string[] = [],
  ): Promise<ContentInfo> {
    const { info } = await this.#client.update(ctx, {
      info: { digest: given.digest, labels: { ...given.labels } },
      updateMask: { paths: [...fields] },
    });
    return infoFromWire(required(info, "info"));
  }

  async *list(ctx: Context, filters: readonly string[] = []): AsyncGenerator<ContentInfo> {
    for await (const { info } of this.#client.list(ctx, { filters: [...filters] })) {
      yield* info.map(infoFromWire);
    }
  }

  async delete(ctx: Context, digest: Digest): Promise<void> {
    await this.#client.delete(ctx, { digest });
  }

  async open(ctx: Context, digest: Digest): Promise<ContentReader> {
    const { sizeBytes } = await this.info(ctx, digest);
    return new ProxyReader(this.#client, ctx, digest, sizeBytes);
  }

  async status(ctx: Context, ref: string): Promise<IngestStatus> {
    const { status } = await this.#client.status(ctx, { ref });
    return statusFromWire(required(status, "status"));
  }

  async listStatuses(
    ctx: Context,
    filters: readonly string[] = [],
  ): Promise<readonly IngestStatus[]> {
    const { statuses } = await this.#client.listStatuses(ctx, { filters: [...filters] });
    return statuses.map(statusFromWire);
  }

  async abort(ctx: Context, ref: string): Promise<void> {
    await this.#client.abort(ctx, { ref });
  }

  /** The media type stays behind: the wire has no field for it. */
  async writer(ctx: Context, options: WriterOptions): Promise<ContentWriter> {
    return openProxyWriter(this.#client, ctx, options);
  }
}

class ProxyReader implements ContentReader {
  readonly sizeBytes: number;
  readonly path = undefined;
  readonly #client: Client<typeof Content>;
  readonly #ctx: Context;
  readonly #digest: Digest;

  constructor(client: Client<typeof Content>, ctx: Context, digest: Digest, sizeBytes: number) {
    this.#client = client;
    this.#ctx = ctx;
    this.#digest = digest;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || offset > this.sizeBytes) {
      throw outOfRange(`read at ${offset} of ${this.sizeBytes} bytes`);
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.stream({ offset, length })) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async *stream(range: { offset?: number; length?: number } = {}): AsyncGenerator<Uint8Array> {
    const { offset = 0, length = Number.POSITIVE_INFINITY } = range;
    let left = Math.min(length, this.sizeBytes - offset);
    // The wire's size 0 means "to the end", so nothing is not asked for.
    if (left <= 0) return;
    const request = { digest: this.#digest, offset: BigInt(offset), size: BigInt(left) };
    for await (const { data } of this.#client.read(this.#ctx, request)) {
      for (let at = 0; at < data.length && left > 0; at += chunkBytes) {
        const chunk = data.subarray(at, Math.min(at + chunkBytes, at + left));
        left -= chunk.length;
        yield chunk;
      }
    }
    if (left > 0) {
      throw new CodedError("data-loss", `content ${this.#digest} ended ${left} bytes early`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function required<T>(value: T | undefined, field: string): T {
  if (value !== undefined) return value;
  throw new CodedError("internal", `content: response without ${field}`);
}
