import type { Context } from "#pkg/context.ts";

/** Names in lower case; several values are several header lines. */
export type HeaderFields = Readonly<Record<string, readonly string[]>>;

/** Values of later ones come after those of earlier ones. */
export function joinHeaders(...all: readonly HeaderFields[]): HeaderFields {
  // A field may be called `constructor`, or `__proto__`.
  const joined = new Map<string, readonly string[]>();
  for (const fields of all) {
    for (const [name, values] of Object.entries(fields)) {
      joined.set(name, [...(joined.get(name) ?? []), ...values]);
    }
  }
  return Object.fromEntries(joined);
}

/** Streams are read when the request is sent, anew for every attempt. */
export interface RequestBody {
  readonly sizeBytes: number;
  open(): Uint8Array | AsyncIterable<Uint8Array>;
}

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: HeaderFields;
  readonly body?: RequestBody | undefined;
}

export interface HttpResponse {
  /** Where the answer came from. */
  readonly url: URL;
  readonly status: number;
  /** The values of a header joined by `, `; undefined where there is none. */
  header(name: string): string | undefined;
  /** Of all its header fields, in lower case. */
  headerNames(): readonly string[];
  /** One value per header line. */
  headerLines(name: string): readonly string[];
  /** Read once. Errors of the connection surface here as `unavailable`. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Instead of `body`, for large ones: what comes at once is one piece, and given to the reader (`freeBytes`). */
  readonly bulk: AsyncIterable<Uint8Array>;
  /** Ends the body, read or not. Every response is either read to its end or discarded. */
  discard(): Promise<void>;
}

/**
 * Sends one request and gives back the answer, whatever its status. No redirects, no retries, no
 * credentials of its own.
 *
 * Throws `unavailable` with words that say what to look at: the name, the connection, TLS, the
 * proxy; `isTransient` of the error's cause tells whether trying again may help.
 */
export interface HttpClient {
  send(ctx: Context, request: HttpRequest): Promise<HttpResponse>;
}

/** Reads a small body. Undefined when it is longer than `maxBytes`; the rest is discarded. */
export async function readBody(
  response: HttpResponse,
  maxBytes: number,
): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) {
      await response.discard();
      return undefined;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The declared size of the body; undefined where none is declared. */
export function contentLength(response: HttpResponse): number | undefined {
  const text = response.header("content-length");
  const size = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : undefined;
  return size !== undefined && Number.isSafeInteger(size) ? size : undefined;
}
