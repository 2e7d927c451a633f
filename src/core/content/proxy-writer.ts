import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import {
  type Content,
  WriteAction,
  type WriteContentRequestSchema,
  type WriteContentResponseSchema,
} from "#api/services/content/v1/content_pb.ts";
import type {
  CommitOptions,
  ContentWriter,
  IngestStatus,
  WriterOptions,
} from "#core/content/content.ts";
import { digestFromWire, timeFromWire } from "#core/content/convert.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { CodedError, failedPrecondition, notImplemented } from "#pkg/errors.ts";
import { MessageQueue } from "#pkg/rpc/message-queue.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { toSize } from "#pkg/safe-integer.ts";

type Request = MessageInitShape<typeof WriteContentRequestSchema>;
type Response = MessageShape<typeof WriteContentResponseSchema>;

/** Half of what a message may hold, as upstream. */
const messageDataBytes = 8 << 20;
const emptyDigest = digestOf("");

/** Opens the stream that is the writer. `ctx` is its lifetime. */
export async function openProxyWriter(
  client: Client<typeof Content>,
  ctx: Context,
  options: WriterOptions,
): Promise<ContentWriter> {
  const requests = new MessageQueue<Request>(1);
  const responses = client.write(ctx, requests)[Symbol.asyncIterator]();
  const writer = new ProxyWriter(options.ref, requests, responses);
  try {
    await writer.exchange({
      action: WriteAction.STAT,
      ref: options.ref,
      total: BigInt(options.totalBytes ?? 0),
      expected: options.expected ?? "",
    });
  } catch (error) {
    requests.end();
    throw error;
  }
  return writer;
}

/** One request is answered before the next is sent. */
class ProxyWriter implements ContentWriter {
  readonly #ref: string;
  readonly #requests: MessageQueue<Request>;
  readonly #responses: AsyncIterator<Response, unknown>;
  #status: IngestStatus;
  #digest: Digest = emptyDigest;
  #tail: Promise<void> = Promise.resolve();
  #ended = false;

  constructor(
    ref: string,
    requests: MessageQueue<Request>,
    responses: AsyncIterator<Response, unknown>,
  ) {
    this.#ref = ref;
    this.#requests = requests;
    this.#responses = responses;
    this.#status = { ref, offset: 0, total: 0, expected: undefined, startedAt: 0n, updatedAt: 0n };
  }

  status(): IngestStatus {
    return this.#status;
  }

  digest(): Digest {
    return this.#digest;
  }

  write(data: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      for (let at = 0; at < data.length; at += messageDataBytes) {
        await this.exchange({
          action: WriteAction.WRITE,
          offset: BigInt(this.#status.offset),
          data: data.subarray(at, at + messageDataBytes),
        });
      }
    });
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#inTurn(async () => {
      if (sizeBytes !== 0) throw notImplemented(`truncate to ${sizeBytes} bytes`);
      // A write at 0 where bytes are held starts anew.
      await this.exchange({ action: WriteAction.WRITE, offset: 0n });
    });
  }

  async commit(_ctx: Context, options: CommitOptions = {}): Promise<Digest> {
    const committed = this.#inTurn(async () => {
      await this.exchange({
        action: WriteAction.COMMIT,
        offset: BigInt(this.#status.offset),
        total: BigInt(options.sizeBytes ?? 0),
        expected: options.expected ?? "",
        ...(options.labels && { labels: { ...options.labels } }),
      });
    });
    this.#ended = true;
    try {
      await committed;
    } finally {
      await this.#finish();
    }
    if (options.expected !== undefined && options.expected !== this.#digest) {
      throw failedPrecondition(`unexpected digest ${this.#digest}, expected ${options.expected}`);
    }
    return this.#digest;
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async exchange(request: Request): Promise<void> {
    if (!this.#requests.offer(request)) throw new CodedError("internal", "write stream has ended");
    const result = await this.#responses.next();
    if (result.done)
      throw new CodedError("unavailable", `write of ${this.#ref} ended without an answer`);
    const response = result.value;
    this.#digest = digestFromWire(response.digest) ?? this.#digest;
    const { startedAt, updatedAt, total } = response;
    this.#status = {
      ...this.#status,
      offset: toSize(response.offset, "offset"),
      ...(total > 0n && { total: toSize(total, "total") }),
      ...(startedAt && { startedAt: timeFromWire(startedAt) }),
      ...(updatedAt && { updatedAt: timeFromWire(updatedAt) }),
    };
  }

  /** Waits for the server's end too: only then is the ref free for the next writer. */
  async #finish(): Promise<void> {
    await this.#tail;
    this.#requests.end();
    try {
      while (!(await this.#responses.next()).done);
    } catch {
      // The stream's failure has reached the caller of the request that met it, or nobody asked for anything.
    }
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    if (this.#ended) return Promise.reject(failedPrecondition("writer is closed"));
    const done = this.#tail.then(step);
    this.#tail = done.catch(() => {});
    return done;
  }
}
