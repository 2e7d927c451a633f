import { address, hasNative, native, textAt } from "#pkg/sys/libc.ts";

// zlib and zstd as they are in Node, which lends them to addons. node:zlib hands each piece to another thread and back;
// a thread that has nothing else to do inflates faster by itself, into memory that it uses again and again.

/** What a step of a decoder came to. */
export interface DecodeStep {
  /** How many bytes of the output are filled. */
  readonly outBytes: number;
  /** `end`: of a gzip member or a zstd frame. */
  readonly state: "more" | "end" | "damaged";
}

/** Inflates one gzip member or zstd frame after the other, on the calling thread. Dispose gives its memory back. */
export interface FrameDecoder extends Disposable {
  /** What is inflated next; it has to stay as it is until none is left. */
  setInput(bytes: Buffer): void;
  /** How much of the input is not inflated yet. */
  readonly leftBytes: number;
  /** Fills the output from its beginning, as far as the input goes. */
  step(): DecodeStep;
  /** Goes on behind the end of a member or frame, where another begins. */
  restart(): void;
  /** What is wrong with damaged input. */
  problem(): string;
}

/** Undefined where this Node keeps its own to itself. The output belongs to the decoder until that is disposed. */
export function openFrameDecoder(
  compression: "gzip" | "zstd",
  output: Buffer,
): FrameDecoder | undefined {
  const calls = compression === "gzip" ? zlib() : zstd();
  return calls?.(output);
}

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;
const Z_NO_FLUSH = 0;
/** The largest window, and a gzip header. */
const gzipWindowBits = 15 + 16;
/** `z_stream` where pointers and longs have eight bytes. */
const zStream = { size: 112, nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, message: 48 };
/** zlib compares the first character with that of its own. */
const zlibVersion = Buffer.from("1\0");

type OnStream = (stream: Buffer) => number;

interface ZlibCalls {
  readonly init: (stream: Buffer, windowBits: number, version: Buffer, size: number) => number;
  readonly inflate: (stream: Buffer, flush: number) => number;
  readonly reset: OnStream;
  readonly end: OnStream;
}

const zlib = once("inflateInit2_", () => {
  const calls: ZlibCalls = {
    init: native("inflateInit2_", "int", ["in", "int", "in", "int"]),
    inflate: native("inflate", "int", ["in", "int"]),
    reset: native<OnStream>("inflateReset", "int", ["in"]),
    end: native<OnStream>("inflateEnd", "int", ["in"]),
  };
  return (output) => new GzipDecoder(calls, output);
});

class GzipDecoder implements FrameDecoder {
  readonly #calls: ZlibCalls;
  readonly #output: Buffer;
  // Never on the collector's own heap, where things move: zlib remembers where it is.
  readonly #stream = Buffer.from(new ArrayBuffer(zStream.size));
  /** Held: the stream has its address only. */
  #input: Buffer | undefined;

  constructor(calls: ZlibCalls, output: Buffer) {
    this.#calls = calls;
    this.#output = output;
    const code = calls.init(this.#stream, gzipWindowBits, zlibVersion, zStream.size);
    if (code !== Z_OK) throw new Error(`inflateInit2: ${code}`);
  }

  setInput(bytes: Buffer): void {
    this.#input = bytes;
    this.#stream.writeBigUInt64LE(address(bytes), zStream.nextIn);
    this.#stream.writeUInt32LE(bytes.length, zStream.availIn);
  }

  get leftBytes(): number {
    return this.#input === undefined ? 0 : this.#stream.readUInt32LE(zStream.availIn);
  }

  step(): DecodeStep {
    const { length } = this.#output;
    this.#stream.writeBigUInt64LE(address(this.#output), zStream.nextOut);
    this.#stream.writeUInt32LE(length, zStream.availOut);
    const code = this.#calls.inflate(this.#stream, Z_NO_FLUSH);
    const outBytes = length - this.#stream.readUInt32LE(zStream.availOut);
    if (code === Z_STREAM_END) return { outBytes, state: "end" };
    // The latter: nothing to do.
    const isFine = code === Z_OK || code === Z_BUF_ERROR;
    return { outBytes, state: isFine ? "more" : "damaged" };
  }

  restart(): void {
    this.#calls.reset(this.#stream);
  }

  problem(): string {
    return textAt(this.#stream.readBigUInt64LE(zStream.message));
  }

  [Symbol.dispose](): void {
    this.#calls.end(this.#stream);
  }
}

/** `ZSTD_inBuffer` and `ZSTD_outBuffer`: an address, a size, a position. */
const zstdBuffer = { bytes: 24, size: 8, position: 16 };

/** An address, which no JavaScript reads at. */
type Pointer = number | bigint;

interface ZstdCalls {
  readonly create: () => Pointer;
  readonly decompress: (decoder: Pointer, output: Buffer, input: Buffer) => number;
  readonly free: (decoder: Pointer) => number;
  readonly errorName: (code: number) => number;
}

const zstd = once("ZSTD_decompressStream", () => {
  const calls: ZstdCalls = {
    create: native<() => number>("ZSTD_createDStream", "int64", []),
    // Errors are the highest of its unsigned numbers.
    decompress: native("ZSTD_decompressStream", "int64", ["int64", "in", "in"]),
    free: native<(decoder: Pointer) => number>("ZSTD_freeDStream", "int64", ["int64"]),
    errorName: native<(code: number) => number>("ZSTD_getErrorName", "int64", ["int64"]),
  };
  return (output) => new ZstdDecoder(calls, output);
});

class ZstdDecoder implements FrameDecoder {
  readonly #calls: ZstdCalls;
  readonly #decoder: Pointer;
  readonly #out = Buffer.alloc(zstdBuffer.bytes);
  readonly #in = Buffer.alloc(zstdBuffer.bytes);
  /** Held, both: the structures have their addresses only. */
  readonly #output: Buffer;
  #input: Buffer | undefined;
  #error = 0;

  constructor(calls: ZstdCalls, output: Buffer) {
    this.#calls = calls;
    this.#output = output;
    this.#decoder = calls.create();
    if (this.#decoder === 0) throw new Error("ZSTD_createDStream: no memory");
  }

  setInput(bytes: Buffer): void {
    this.#input = bytes;
    this.#in.writeBigUInt64LE(address(bytes), 0);
    this.#in.writeBigUInt64LE(BigInt(bytes.length), zstdBuffer.size);
    this.#in.writeBigUInt64LE(0n, zstdBuffer.position);
  }

  get leftBytes(): number {
    return (this.#input?.length ?? 0) - Number(this.#in.readBigUInt64LE(zstdBuffer.position));
  }

  step(): DecodeStep {
    this.#out.writeBigUInt64LE(address(this.#output), 0);
    this.#out.writeBigUInt64LE(BigInt(this.#output.length), zstdBuffer.size);
    this.#out.writeBigUInt64LE(0n, zstdBuffer.position);
    const result = this.#calls.decompress(this.#decoder, this.#out, this.#in);
    const outBytes = Number(this.#out.readBigUInt64LE(zstdBuffer.position));
    if (result < 0) this.#error = result;
    return { outBytes, state: result < 0 ? "damaged" : result === 0 ? "end" : "more" };
  }

  /** It does so by itself. */
  restart(): void {}

  problem(): string {
    return textAt(this.#calls.errorName(this.#error));
  }

  [Symbol.dispose](): void {
    this.#calls.free(this.#decoder);
  }
}

type OpenDecoder = (output: Buffer) => FrameDecoder;

/** Looks for the functions when first asked, and binds them once. */
function once(symbol: string, bind: () => OpenDecoder): () => OpenDecoder | undefined {
  let bound: OpenDecoder | undefined;
  return () => (bound ??= hasNative(symbol) ? bind() : undefined);
}
