import type { BlobBody, ByteRange } from "#core/remotes/blob-body.ts";
import type { Limit } from "#pkg/limit.ts";
import { faultOf } from "#core/remotes/transport-error.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, codeOf, failedPrecondition, isErrno } from "#pkg/errors.ts";
import { pause } from "#pkg/retry.ts";

export interface BlobReaderOptions {
  /** Names the blob in errors. */
  readonly name: string;
  /** Undefined where nobody knows: then the body's end is the end. */
  readonly sizeBytes: number | undefined;
  readonly open: (ctx: Context, range: ByteRange) => Promise<BlobBody>;
  readonly limit?: Limit | undefined;
  readonly parallel?: ParallelOptions | undefined;
}

/** Ranges of one blob at once: for links where a single connection is not given all there is. */
export interface ParallelOptions {
  readonly connections: number;
  /** Of each range, and of each buffer: there are at most `connections` of them. */
  readonly chunkBytes: number;
}

const failuresMax = 3;
const reopensMax = 1_000;
const failurePauseMs = 50;
const chunkBytesMin = 512;

/** Reads a blob from an offset to its end, over as many connections as that takes. */
export async function* readBlob(
  ctx: Context,
  options: BlobReaderOptions,
  offset: number,
): AsyncIterable<Uint8Array> {
  const { sizeBytes, name } = options;
  let position = offset;
  let failures = 0;
  let parallel = isWorthSplitting(options, offset) ? options.parallel : undefined;
  for (let opens = 0; sizeBytes === undefined || position < sizeBytes; opens++) {
    const before = position;
    // Opening has its own patience: when it fails, it has failed.
    await using part = parallel
      ? readRanges(ctx, options, position, parallel)
      : await openRest(ctx, options, position);
    let problem: unknown;
    try {
      for await (const chunk of part.chunks) {
        position += chunk.length;
        if (sizeBytes !== undefined && position > sizeBytes) throw tooLong(sizeBytes);
        yield chunk;
      }
      if (sizeBytes === undefined) return;
    } catch (error) {
      ctx.throwIfEnded();
      // What one connection can do is settled by one; ranges are an attempt.
      if (!isBreak(error) && !(parallel && codeOf(error) === "unavailable")) throw error;
      problem = error;
    }
    // Whole, and at most its end was not seen: the digest is what decides.
    if (sizeBytes !== undefined && position >= sizeBytes) return;
    failures = position > before || parallel ? 0 : failures + 1;
    parallel = undefined;
    if (failures > failuresMax || opens >= reopensMax) {
      const message = `${name}: unexpected EOF after ${position} of ${sizeBytes ?? "?"} bytes`;
      throw new CodedError("data-loss", message, { cause: problem });
    }
    ctx.logger.debug("connection broke, going on from where it was", { name, position });
    await pause(ctx, failurePauseMs * failures);
  }
}

interface Part extends AsyncDisposable {
  readonly chunks: AsyncIterable<Uint8Array>;
}

function isWorthSplitting({ sizeBytes, parallel }: BlobReaderOptions, offset: number): boolean {
  if (!parallel || sizeBytes === undefined) return false;
  const { connections, chunkBytes } = parallel;
  return connections > 1 && chunkBytes >= chunkBytesMin && sizeBytes - offset > chunkBytes;
}

/** Upstream's words: clients look for them. */
function tooLong(sizeBytes: number): CodedError {
  return failedPrecondition(`httpReadSeeker: read past expected size ${sizeBytes}`);
}

function isBreak(error: unknown): boolean {
  const fault = faultOf(error);
  if (fault === "broken" || fault === "stalled") return true;
  // An encoded body that was cut, as its decoder sees it.
  return isErrno(error, "Z_BUF_ERROR", "ZSTD_error_srcSize_wrong");
}

async function openRest(
  ctx: Context,
  { open, limit, sizeBytes, name }: BlobReaderOptions,
  offset: number,
): Promise<Part> {
  await using stack = new AsyncDisposableStack();
  const held = await limit?.acquire(ctx);
  stack.defer(() => held?.[Symbol.dispose]());
  const body = await open(ctx, { offset });
  stack.defer(() => body.close());
  assertLongEnough(body, sizeBytes, name);
  const owned = stack.move();
  return { chunks: body.chunks, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function assertLongEnough(body: BlobBody, sizeBytes: number | undefined, name: string): void {
  if (sizeBytes === undefined || body.totalBytes === undefined) return;
  if (body.totalBytes >= sizeBytes) return;
  throw new CodedError(
    "data-loss",
    `${name}: the registry has ${body.totalBytes} bytes of it, ${sizeBytes} are expected`,
  );
}

/**
 * Chunk `i` is asked for after chunk `i - connections` was taken: no more than that many are ever
 * held.
 */
function readRanges(
  ctx: Context,
  options: BlobReaderOptions,
  offset: number,
  { connections, chunkBytes }: ParallelOptions,
): Part {
  const end = options.sizeBytes ?? offset;
  const ending = new AbortController();
  const scope = ctx.withSignal(ending.signal);
  const window: Promise<Uint8Array>[] = [];
  let next = offset;
  const ask = (): void => {
    const length = Math.min(chunkBytes, end - next);
    const chunk = loadRange(scope, options, { offset: next, length });
    // It may fail long before its turn.
    chunk.catch(() => undefined);
    window.push(chunk);
    next += length;
  };
  const chunks = async function* (): AsyncIterable<Uint8Array> {
    // The first tells whether the server knows ranges at all.
    ask();
    await window[0];
    for (;;) {
      while (window.length < connections && next < end) ask();
      const chunk = await window[0];
      if (!chunk) return;
      void window.shift();
      yield chunk;
    }
  };
  return {
    chunks: chunks(),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.allSettled(window);
    },
  };
}

async function loadRange(
  ctx: Context,
  { open, limit, sizeBytes, name }: BlobReaderOptions,
  { offset, length }: { offset: number; length: number },
): Promise<Uint8Array> {
  using _held = await limit?.acquire(ctx);
  const body = await open(ctx, { offset, length });
  try {
    assertLongEnough(body, sizeBytes, name);
    if (body.isRange) return await readExactly(body.chunks, length, name);
  } finally {
    await body.close();
  }
  throw new CodedError("unavailable", `${name}: content range requests ignored`);
}

async function readExactly(
  chunks: AsyncIterable<Uint8Array>,
  length: number,
  name: string,
): Promise<Uint8Array> {
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  for await (const chunk of chunks) {
    if (filled + chunk.length > length) break;
    buffer.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled === length) return buffer;
  throw new CodedError("unavailable", `${name}: not the ${length} bytes of a range`);
}
