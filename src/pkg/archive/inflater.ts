import type { Compression } from "#pkg/archive/compression.ts";
import { CodedError } from "#pkg/errors.ts";
import { type FrameDecoder, openFrameDecoder } from "#pkg/sys/codecs.ts";

/** What is inflated at a time: so little that it is still in the processor's cache when it is digested and written. */
const outputBytes = 128 << 10;

/**
 * Inflates a stream pushed in chunks, on the calling thread: several gzip members or zstd frames in a row. Throws
 * `data-loss` for what is damaged, followed by something else (zeros too), or cut off.
 */
export class Inflater implements Disposable {
  readonly #compression: Exclude<Compression, "none">;
  readonly #decoder: FrameDecoder;
  readonly #output: Buffer;
  #state: "inside" | "between" = "inside";

  private constructor(
    compression: Exclude<Compression, "none">,
    decoder: FrameDecoder,
    output: Buffer,
  ) {
    this.#compression = compression;
    this.#decoder = decoder;
    this.#output = output;
  }

  /** Undefined where Node has to be asked to do it its way. */
  static open(compression: Exclude<Compression, "none">): Inflater | undefined {
    const output = Buffer.allocUnsafeSlow(outputBytes);
    const decoder = openFrameDecoder(compression, output);
    return decoder && new Inflater(compression, decoder, output);
  }

  /** Hands on what is in the chunk, in pieces that are good until `use` returns. */
  push(chunk: Buffer, use: (plain: Buffer) => void): void {
    const decoder = this.#decoder;
    decoder.setInput(chunk);
    while (this.#isInside()) {
      const { outBytes, state } = decoder.step();
      if (outBytes > 0) use(this.#output.subarray(0, outBytes));
      if (state === "damaged") throw this.#error(`damaged: ${decoder.problem()}`);
      if (state === "end") this.#state = "between";
      else if (decoder.leftBytes === 0 && outBytes < this.#output.length) return;
    }
  }

  /** Says that nothing follows. */
  finish(): void {
    if (this.#state === "inside") throw this.#error("truncated: unexpected EOF");
  }

  [Symbol.dispose](): void {
    this.#decoder[Symbol.dispose]();
  }

  /** Whether there is more to inflate; begins what begins here. */
  #isInside(): boolean {
    if (this.#state === "inside") return true;
    if (this.#decoder.leftBytes === 0) return false;
    this.#decoder.restart();
    this.#state = "inside";
    return true;
  }

  #error(what: string): CodedError {
    return new CodedError("data-loss", `${this.#compression} stream is ${what}`);
  }
}
