import { huffmanCodeBits } from "./hpack-tables.ts";

const CODE_BITS_MAX = 30;
const END_OF_STRING = 256;

/** Of the codes of one length: the first of them, and the symbols they stand for in order. */
interface Length {
  readonly firstCode: number;
  readonly symbols: readonly number[];
}

// Canonical: codes of one length count up in the order of their symbols, and go on, one bit longer, from there.
const lengths: readonly Length[] = (() => {
  const made: Length[] = [];
  let code = 0;
  for (let bits = 0; bits <= CODE_BITS_MAX; bits++) {
    const symbols = huffmanCodeBits.flatMap((length, symbol) =>
      length === bits && bits > 0 ? [symbol] : [],
    );
    made.push({ firstCode: code, symbols });
    code = (code + symbols.length) << 1;
  }
  return made;
})();

/** Decodes a string of HPACK into its octets, one per character. Throws when it is no such code. */
export function decodeHuffman(bytes: Uint8Array): string {
  let text = "";
  let code = 0;
  let bits = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((byte >> bit) & 1);
      bits++;
      const length = lengths[bits];
      if (!length) throw new Error("no such Huffman code");
      const symbol = length.symbols[code - length.firstCode];
      if (symbol === undefined) continue;
      if (symbol === END_OF_STRING) throw new Error("end of string inside a Huffman string");
      text += String.fromCharCode(symbol);
      code = 0;
      bits = 0;
    }
  }
  // The last octet is filled up with ones.
  if (bits > 7 || code !== (1 << bits) - 1) throw new Error("wrong padding of a Huffman string");
  return text;
}
