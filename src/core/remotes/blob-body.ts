import { acceptedEncodings, decodeBody, encodingsOf } from "#core/remotes/content-encoding.ts";
import { contentLength, type HeaderFields, type HttpResponse } from "#core/remotes/http-client.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import { sanitizeUrl } from "#core/remotes/sanitize-url.ts";
import { unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import { CodedError, notFound } from "#pkg/errors.ts";

export interface ByteRange {
  readonly offset: number;
  /** Undefined: to the end. */
  readonly length?: number | undefined;
}

/** Bytes from the offset that was asked for. */
export interface BlobBody {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Ends it, read or not. */
  close(): Promise<void>;
  /** False where the server ignored the range: there is no end to what was asked for but the end. */
  readonly isRange: boolean;
  /** Of the whole blob; undefined where the server does not say. */
  readonly totalBytes: number | undefined;
}

/** Sends a request with the given header fields, and gives back any answer. */
export type Ask = (headers: HeaderFields) => Promise<HostAnswer>;

/**
 * Asks for a blob, or a range of it. What a server sends that ignores ranges is read up to the
 * offset and dropped.
 *
 * Throws `not-found`, or what else the status says.
 */
export async function openBody(ask: Ask, range: ByteRange): Promise<BlobBody> {
  const { offset, length } = range;
  const asksRange = offset > 0 || length !== undefined;
  const end = length === undefined ? "" : String(offset + length - 1);
  const { response, method } = await ask({
    // A range of an encoded body would be one of the encoding.
    "accept-encoding": [asksRange ? "identity" : acceptedEncodings],
    ...(asksRange && { range: [`bytes=${offset}-${end}`] }),
  });
  if (response.status > 299 || response.status < 200) throw await problemOf(method, response);
  try {
    return asksRange ? partialBody(response, offset) : wholeBody(response, 0);
  } catch (error) {
    await response.discard();
    throw error;
  }
}

async function problemOf(method: string, response: HttpResponse): Promise<CodedError> {
  if (response.status !== 404) return unexpectedStatus(method, response);
  await response.discard();
  return notFound(`content at ${sanitizeUrl(response.url)} not found`);
}

function partialBody(response: HttpResponse, offset: number): BlobBody {
  const range = response.header("content-range");
  if (response.status !== 206 && range === undefined) return wholeBody(response, offset);
  const found = /^bytes (\d{1,16})-\d+\/(\d{1,16}|\*)$/.exec(range ?? "");
  const encodings = encodingsOf(response);
  if (Number(found?.[1]) !== offset || encodings.length > 0) {
    throw new CodedError(
      "unavailable",
      `unhandled content range in response of ${sanitizeUrl(response.url)}: ${String(range)}`,
    );
  }
  const total = found?.[2] === "*" ? undefined : Number(found?.[2]);
  return {
    chunks: response.bulk,
    close: closing(response, response.bulk),
    isRange: true,
    totalBytes: total,
  };
}

function wholeBody(response: HttpResponse, offset: number): BlobBody {
  const encodings = encodingsOf(response);
  const decoded = encodings.length === 0 ? response.bulk : decodeBody(response.body, encodings);
  const chunks = offset === 0 ? decoded : skip(decoded, offset);
  return {
    chunks,
    close: closing(response, chunks),
    isRange: false,
    totalBytes: encodings.length === 0 ? contentLength(response) : undefined,
  };
}

/** A stream that nobody has begun to read does not know how to end. */
function closing(response: HttpResponse, chunks: AsyncIterable<Uint8Array>): () => Promise<void> {
  return async () => {
    await chunks[Symbol.asyncIterator]().return?.();
    await response.discard();
  };
}

async function* skip(chunks: AsyncIterable<Uint8Array>, count: number): AsyncIterable<Uint8Array> {
  let left = count;
  for await (const chunk of chunks) {
    if (left >= chunk.length) {
      left -= chunk.length;
      continue;
    }
    yield chunk.subarray(left);
    left = 0;
  }
}
