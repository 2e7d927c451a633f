import { CodedError } from "#pkg/errors.ts";

const inputMax = 10 * 1024 * 1024;

/** All of standard input. Throws `resource-exhausted` beyond 10 MiB. */
export async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  // -- standard input without an encoding gives buffers
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > inputMax) {
      throw new CodedError("resource-exhausted", `standard input is larger than ${inputMax} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
