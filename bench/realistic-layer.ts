import type { TarEntry } from "#test/support/tar.ts";

/**
 * Files as images have them: many small texts, some programs, a few large ones; compressible to about a third.
 * The same seed gives the same bytes.
 */
export function realisticLayer({ seed, bytes }: { seed: number; bytes: number }): TarEntry[] {
  const random = new Random(seed);
  const text = textOf(random, 1 << 16);
  const noise = Buffer.from(Uint8Array.from({ length: 1 << 16 }, () => random.below(256)));
  const entries: TarEntry[] = [{ path: `layer${seed}`, type: "directory" }];
  let left = bytes;
  for (let i = 0; left > 0; i++) {
    if (i % 40 === 0) entries.push({ path: `layer${seed}/d${i / 40}`, type: "directory" });
    const size = Math.min(left, sizeOf(random));
    const path = `layer${seed}/d${Math.floor(i / 40)}/file${i}`;
    entries.push({ path, mode: 0o644, content: contentOf(random, { size, text, noise }) });
    if (i % 25 === 24) {
      entries.push({ path: `${path}.link`, type: "symlink", target: `file${i}` });
    }
    left -= size;
  }
  return entries;
}

/** Half below 4 KB, most of the bytes in a few files. */
function sizeOf(random: Random): number {
  const kind = random.below(100);
  if (kind < 55) return 1 + random.below(4 << 10);
  if (kind < 90) return 4 << (10 + random.below(2));
  if (kind < 99) return (16 << 10) + random.below(112 << 10);
  return (512 << 10) + random.below(1 << 20);
}

/** Pieces of text and noise from random places, four of one to one of the other. */
function contentOf(
  random: Random,
  { size, text, noise }: { size: number; text: Buffer; noise: Buffer },
): Buffer {
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const source = random.below(5) === 0 ? noise : text;
    const from = random.below(source.length - 2048);
    at += source.copy(content, at, from, from + 256 + random.below(1792));
  }
  return content;
}

const syllables = "re con tion ing ver al ment ti er com pre pro sub in ex port str int main ";

function textOf(random: Random, size: number): Buffer {
  const parts = syllables.split(" ");
  let text = "";
  while (text.length < size) {
    text += parts[random.below(parts.length)] ?? "";
    if (random.below(3) === 0) text += random.below(12) === 0 ? "\n" : " ";
  }
  return Buffer.from(text.slice(0, size));
}

/** Xorshift: no seed may be 0. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed * 0x9e3779b1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }
}
