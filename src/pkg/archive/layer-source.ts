import { closeSync, openSync, readSync } from "node:fs";
import type { Growth } from "#pkg/archive/growing-file.ts";
import { CodedError } from "#pkg/errors.ts";

// Where a worker's layer comes from. A chunk is valid until the next one is asked for: there is one buffer, so that
// memory does not hang on how often garbage is collected.

const readBytes = 512 << 10;

/** The bytes of a file, read on the calling thread. */
export async function* readFileChunks(path: string): AsyncGenerator<Buffer, void, undefined> {
  const fd = openSync(path, "r");
  try {
    const buffer = Buffer.allocUnsafeSlow(readBytes);
    for (;;) {
      const length = readSync(fd, buffer, 0, readBytes, null);
      if (length === 0) return;
      yield buffer.subarray(0, length);
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * The bytes of a file that somebody else still writes, to its end. `changed` resolves when the growth is another.
 *
 * Throws `aborted` when the rest will never come.
 */
export async function* readGrowingFile(
  fd: number,
  growth: () => Growth,
  changed: () => Promise<void>,
): AsyncGenerator<Buffer, void, undefined> {
  const buffer = Buffer.allocUnsafeSlow(readBytes);
  for (let at = 0; ; ) {
    const { heldBytes, end } = growth();
    if (end === "broken") throw new CodedError("aborted", "the rest of the layer never came");
    if (at === heldBytes) {
      if (end === "whole") return;
      await changed();
      continue;
    }
    const length = readSync(fd, buffer, 0, Math.min(readBytes, heldBytes - at), at);
    if (length === 0) {
      throw new CodedError("data-loss", `file ended at ${at} of ${heldBytes} bytes written`);
    }
    at += length;
    yield buffer.subarray(0, length);
  }
}
