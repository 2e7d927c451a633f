import { Readable, type Transform, pipeline } from "node:stream";
import { createGunzip, createInflate, createInflateRaw, createZstdDecompress } from "node:zlib";
import type { HttpResponse } from "#core/remotes/http-client.ts";
import { CodedError } from "#pkg/errors.ts";

export const acceptedEncodings = "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5";

/** The encodings of a body, outermost last; none when it comes as it is. */
export function encodingsOf(response: HttpResponse): readonly string[] {
  return (response.header("content-encoding") ?? "")
    .toLowerCase()
    .split(/[ \t,]+/)
    .filter((name) => name !== "" && name !== "identity");
}

/** Throws for an encoding that nobody asked for. */
export function decodeBody(
  body: AsyncIterable<Uint8Array>,
  encodings: readonly string[],
): AsyncIterable<Uint8Array> {
  if (encodings.length > encodingsMax) {
    throw new CodedError("unavailable", `${encodings.length} content encodings in one response`);
  }
  return encodings.reduceRight((inner, name) => decode(inner, name), body);
}

const encodingsMax = 4;

function decode(body: AsyncIterable<Uint8Array>, name: string): AsyncIterable<Uint8Array> {
  switch (name) {
    case "zstd":
      return through(body, () => createZstdDecompress());
    case "gzip":
    case "x-gzip":
      return through(body, () => createGunzip());
    case "deflate":
      return through(body, createDeflateDecoder);
    default:
      throw new CodedError("unavailable", `unsupported content encoding ${JSON.stringify(name)}`);
  }
}

/** "deflate" is a zlib stream by RFC 9110 and a bare one by common practice: the first byte tells. */
function createDeflateDecoder(first: Uint8Array): Transform {
  return ((first[0] ?? 0) & 0x0f) === 8 ? createInflate() : createInflateRaw();
}

async function* through(
  body: AsyncIterable<Uint8Array>,
  create: (first: Uint8Array) => Transform,
): AsyncIterable<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  const rest: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => iterator };
  const input = Readable.from(prefixed(first.value, rest), { objectMode: false });
  const decoder = create(first.value);
  try {
    // Failures of either end reach the loop below through the decoder.
    pipeline(input, decoder, () => undefined);
    for await (const chunk of decoder) yield chunk as Uint8Array; // -- no encoding is set
  } finally {
    input.destroy();
    decoder.destroy();
  }
}

async function* prefixed(
  first: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  yield first;
  yield* rest;
}
