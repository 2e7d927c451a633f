import type { FileHandle } from "node:fs/promises";
import type { ContentReader } from "#core/content/content.ts";
import { outOfRange } from "#pkg/errors.ts";

const chunkBytes = 1 << 20;

export class LocalContentReader implements ContentReader {
  readonly sizeBytes: number;
  readonly path: string;
  readonly #file: FileHandle;

  constructor(file: FileHandle, path: string, sizeBytes: number) {
    this.#file = file;
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || offset > this.sizeBytes) {
      throw outOfRange(`read at ${offset} of ${this.sizeBytes} bytes`);
    }
    const wanted = Math.min(length, this.sizeBytes - offset);
    const buffer = Buffer.allocUnsafeSlow(wanted);
    let held = 0;
    while (held < wanted) {
      const { bytesRead } = await this.#file.read(buffer, held, wanted - held, offset + held);
      if (bytesRead === 0) break;
      held += bytesRead;
    }
    return held === wanted ? buffer : buffer.subarray(0, held);
  }

  async *stream(range: { offset?: number; length?: number } = {}): AsyncGenerator<Uint8Array> {
    const start = range.offset ?? 0;
    const end = Math.min(start + (range.length ?? Number.POSITIVE_INFINITY), this.sizeBytes);
    let next = this.read(start, Math.min(chunkBytes, Math.max(0, end - start)));
    try {
      for (let at = start; at < end; at += chunkBytes) {
        const chunk = await next;
        const following = at + chunkBytes;
        if (following < end) next = this.read(following, Math.min(chunkBytes, end - following));
        yield chunk;
      }
    } finally {
      // The chunk read ahead ends before the caller closes the file under it.
      await next.catch(() => {});
    }
    await next;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
