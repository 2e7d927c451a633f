type Range = readonly [low: number, high: number];

const last = 0x10ffff;

const digit: readonly Range[] = [[0x30, 0x39]];
const upper: readonly Range[] = [[0x41, 0x5a]];
const lower: readonly Range[] = [[0x61, 0x7a]];
const word: readonly Range[] = [...digit, ...upper, [0x5f, 0x5f], ...lower];
// Go's \s has no vertical tab.
const space: readonly Range[] = [
  [9, 10],
  [12, 13],
  [32, 32],
];

const perl: Readonly<Record<string, readonly Range[]>> = { d: digit, s: space, w: word };

const posix: Readonly<Record<string, readonly Range[]>> = {
  alnum: [...digit, ...upper, ...lower],
  alpha: [...upper, ...lower],
  ascii: [[0, 0x7f]],
  blank: [
    [9, 9],
    [32, 32],
  ],
  cntrl: [
    [0, 31],
    [127, 127],
  ],
  digit,
  graph: [[33, 126]],
  lower,
  print: [[32, 126]],
  punct: [
    [33, 47],
    [58, 64],
    [91, 96],
    [123, 126],
  ],
  space: [
    [9, 13],
    [32, 32],
  ],
  upper,
  word,
  xdigit: [...digit, [0x41, 0x46], [0x61, 0x66]],
};

/**
 * A set of characters.
 *
 * It is asked one code point at a time, through a JavaScript expression of exactly one bracket:
 * that gives Unicode properties and case folding without ever handing the engine something it could
 * backtrack on.
 */
export class CharacterClass {
  #parts = "";
  /**
   * Parts of which everything else is in the set: `\D` among others. Folded before they are
   * negated.
   */
  readonly #others: string[] = [];
  #negated = false;
  #pattern: RegExp | undefined;
  #otherPatterns: readonly RegExp[] = [];
  /** 0 not asked yet, 1 no, 2 yes. */
  readonly #ascii = new Uint8Array(128);

  add(low: number, high: number): void {
    this.#parts += range([low, high]);
  }

  negate(): void {
    this.#negated = !this.#negated;
  }

  /** `d`, `D`, `s`, `S`, `w`, `W`; false for anything else. */
  addPerl(letter: string): boolean {
    const name = letter.toLowerCase();
    const ranges = Object.hasOwn(perl, name) ? perl[name] : undefined;
    return this.#addRanges(ranges, letter !== name);
  }

  addPosix(name: string, negated: boolean): boolean {
    return this.#addRanges(Object.hasOwn(posix, name) ? posix[name] : undefined, negated);
  }

  /** A general category (`L`, `Lu`) or a script (`Greek`); false for a name that is neither. */
  addProperty(name: string, negated: boolean): boolean {
    if (name === "Any") return this.#addRanges([[0, last]], negated);
    if (!/^[A-Za-z_]+$/.test(name)) return false;
    const property = ["gc", "Script"].map((kind) => `\\p{${kind}=${name}}`).find(compiles);
    if (property !== undefined) this.#addPart(property, negated);
    return property !== undefined;
  }

  #addRanges(ranges: readonly Range[] | undefined, negated: boolean): boolean {
    if (ranges) this.#addPart(ranges.map(range).join(""), negated);
    return ranges !== undefined;
  }

  #addPart(part: string, negated: boolean): void {
    if (negated) this.#others.push(part);
    else this.#parts += part;
  }

  /** No more is added after this. `fold` takes characters of any case. */
  seal(fold: boolean): this {
    const flags = fold ? "iv" : "v";
    this.#pattern = new RegExp(`^[${this.#parts}]$`, flags);
    this.#otherPatterns = this.#others.map((part) => new RegExp(`^[${part}]$`, flags));
    return this;
  }

  has(code: number): boolean {
    if (code >= 128) return this.#ask(code);
    if (this.#ascii[code] === 0) this.#ascii[code] = this.#ask(code) ? 2 : 1;
    return this.#ascii[code] === 2;
  }

  #ask(code: number): boolean {
    const c = String.fromCodePoint(code);
    const within =
      this.#pattern?.test(c) === true || this.#otherPatterns.some((pattern) => !pattern.test(c));
    return within !== this.#negated;
  }
}

function range([low, high]: Range): string {
  return `\\u{${low.toString(16)}}-\\u{${high.toString(16)}}`;
}

function compiles(property: string): boolean {
  try {
    new RegExp(property, "v");
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}
