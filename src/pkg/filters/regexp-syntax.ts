import { CharacterClass } from "#pkg/filters/character-class.ts";

/** Zero-width conditions. */
export type Assertion =
  | "begin-text"
  | "end-text"
  | "begin-line"
  | "end-line"
  | "word-boundary"
  | "no-word-boundary";

export type Node =
  | { readonly kind: "class"; readonly class: CharacterClass }
  | { readonly kind: "assert"; readonly assertion: Assertion }
  | { readonly kind: "concat"; readonly nodes: readonly Node[] }
  | { readonly kind: "alternate"; readonly nodes: readonly Node[] }
  | { readonly kind: "repeat"; readonly node: Node; readonly min: number; readonly max: number };

/** What is wrong with an expression, in the words of Go's `regexp/syntax`. */
export class RegexpSyntaxError extends Error {
  override readonly name = "RegexpSyntaxError";

  constructor(problem: string, part: string) {
    super(`error parsing regexp: ${problem}: \`${part}\``);
  }
}

const repeatMax = 1000;
const depthMax = 500;

interface Flags {
  readonly fold: boolean;
  readonly multiline: boolean;
  readonly dotAll: boolean;
}

/**
 * Parses Go's (RE2's) syntax: no backreference and no lookaround. Greediness and captures are read
 * and dropped, since a filter only asks whether there is a match.
 */
export function parseRegexp(source: string): Node {
  return new Parser(source).parse();
}

class Parser {
  readonly #chars: readonly string[];
  readonly #source: string;
  #at = 0;
  #depth = 0;
  #flags: Flags = { fold: false, multiline: false, dotAll: false };

  constructor(source: string) {
    this.#source = source;
    this.#chars = Array.from(source);
  }

  parse(): Node {
    const node = this.#alternation();
    if (this.#at < this.#chars.length) throw new RegexpSyntaxError("unexpected )", this.#source);
    return node;
  }

  #peek(ahead = 0): string | undefined {
    return this.#chars[this.#at + ahead];
  }

  #rest(length?: number): string {
    return this.#chars.slice(this.#at, length && this.#at + length).join("");
  }

  #take(text: string): boolean {
    const length = Array.from(text).length;
    if (this.#rest(length) !== text) return false;
    this.#at += length;
    return true;
  }

  #alternation(): Node {
    this.#depth += 1;
    if (this.#depth > depthMax) {
      throw new RegexpSyntaxError("expression nests too deeply", this.#source.slice(0, 80));
    }
    const nodes = [this.#concatenation()];
    while (this.#take("|")) nodes.push(this.#concatenation());
    this.#depth -= 1;
    return nodes.length === 1 && nodes[0] ? nodes[0] : { kind: "alternate", nodes };
  }

  #concatenation(): Node {
    const nodes: Node[] = [];
    for (let c = this.#peek(); c !== undefined && c !== "|" && c !== ")"; c = this.#peek()) {
      if (this.#take("\\Q")) this.#quoted(nodes);
      else {
        const atom = this.#atom(c);
        if (atom) nodes.push(atom);
      }
      // Also after `(?i)` and `\E`: a repetition there belongs to what stands before.
      const node = nodes.pop();
      if (node) nodes.push(this.#repeated(node));
    }
    return { kind: "concat", nodes };
  }

  /** Undefined for what only sets flags. */
  #atom(c: string): Node | undefined {
    switch (c) {
      case "(":
        return this.#group();
      case "[":
        return { kind: "class", class: this.#bracket() };
      case "\\":
        return this.#escape();
      case "^":
        this.#at += 1;
        return assertion(this.#flags.multiline ? "begin-line" : "begin-text");
      case "$":
        this.#at += 1;
        return assertion(this.#flags.multiline ? "end-line" : "end-text");
      case ".":
        this.#at += 1;
        return { kind: "class", class: anyCharacter(this.#flags.dotAll) };
      default:
        this.#refuseRepetition();
        this.#at += 1;
        return this.#literal(c);
    }
  }

  #refuseRepetition(): void {
    const bounds = this.#bounds();
    if (!bounds) return;
    const lazy = this.#peek(bounds.text.length) === "?" ? "?" : "";
    throw new RegexpSyntaxError("missing argument to repetition operator", bounds.text + lazy);
  }

  #literal(c: string): Node {
    const set = new CharacterClass();
    set.add(codeOf(c), codeOf(c));
    return { kind: "class", class: set.seal(this.#flags.fold) };
  }

  #quoted(into: Node[]): void {
    while (this.#at < this.#chars.length && !this.#take("\\E")) {
      const c = this.#peek() ?? "";
      this.#at += 1;
      into.push(this.#literal(c));
    }
  }

  #repeated(node: Node): Node {
    const bounds = this.#bounds();
    if (!bounds) return node;
    const from = this.#at;
    const finite = bounds.max === Number.POSITIVE_INFINITY ? bounds.min : bounds.max;
    if (bounds.min > repeatMax || finite > repeatMax || bounds.max < bounds.min) {
      throw new RegexpSyntaxError("invalid repeat count", bounds.text);
    }
    this.#at += bounds.text.length;
    this.#take("?");
    const again = this.#bounds();
    if (again) {
      this.#at += again.text.length;
      this.#take("?");
      const part = this.#chars.slice(from, this.#at).join("");
      throw new RegexpSyntaxError("invalid nested repetition operator", part);
    }
    return { kind: "repeat", node, min: bounds.min, max: bounds.max };
  }

  /** The repetition operator that stands here, not consumed. A `{` that is none is a literal. */
  #bounds(): { min: number; max: number; text: string } | undefined {
    const infinity = Number.POSITIVE_INFINITY;
    const c = this.#peek();
    if (c === "*") return { min: 0, max: infinity, text: c };
    if (c === "+") return { min: 1, max: infinity, text: c };
    if (c === "?") return { min: 0, max: 1, text: c };
    if (c !== "{") return undefined;
    const found = /^\{(\d+)(,?)(\d*)\}/.exec(this.#rest(64));
    if (!found) return undefined;
    const [text, low = "", comma, high = ""] = found;
    if (comma === "" && high !== "") return undefined;
    // Go takes no leading zeros for a count: such braces are literal.
    if (/^0\d/.test(low) || /^0\d/.test(high)) return undefined;
    const min = Number(low);
    return { min, max: comma === "" ? min : high === "" ? infinity : Number(high), text };
  }

  #group(): Node | undefined {
    const outer = this.#flags;
    const start = this.#at;
    this.#at += 1;
    if (this.#peek() === "?") {
      const named = /^\?P?<([^>]*)>/.exec(this.#rest());
      if (named) {
        const [text, name = ""] = named;
        if (!/^[A-Za-z0-9_]+$/.test(name)) {
          throw new RegexpSyntaxError("invalid named capture", `(${text}`);
        }
        this.#at += Array.from(text).length;
      } else if (/^\?P?</.test(this.#rest(3))) {
        throw new RegexpSyntaxError("invalid named capture", `(${this.#rest()}`);
      } else if (!this.#groupFlags(start)) return undefined;
    }
    const node = this.#alternation();
    if (!this.#take(")")) throw new RegexpSyntaxError("missing closing )", this.#source);
    this.#flags = outer;
    return node;
  }

  /**
   * Reads `?flags:` or `?flags)`; false for the latter, which changes the flags of the group it
   * stands in.
   */
  #groupFlags(start: number): boolean {
    const found = /^\?([imsU]*)(?:-([imsU]+))?([:)])/.exec(this.#rest(16));
    if (!found) {
      const part = this.#chars.slice(start, start + 3).join("");
      throw new RegexpSyntaxError("invalid or unsupported Perl syntax", part);
    }
    const [text, on = "", off = "", end] = found;
    const flag = (name: string, before: boolean): boolean =>
      off.includes(name) ? false : on.includes(name) || before;
    this.#flags = {
      fold: flag("i", this.#flags.fold),
      multiline: flag("m", this.#flags.multiline),
      dotAll: flag("s", this.#flags.dotAll),
    };
    this.#at += text.length;
    return end === ":";
  }

  #escape(): Node {
    const next = this.#peek(1);
    const asserted = next === undefined ? undefined : assertions[next];
    if (asserted) {
      this.#at += 2;
      return assertion(asserted);
    }
    const set = new CharacterClass();
    if (!this.#classEscape(set)) {
      const code = this.#codeEscape();
      set.add(code, code);
    }
    return { kind: "class", class: set.seal(this.#flags.fold) };
  }

  /** `\d`, `\pL` and the like; false where the escape stands for one character. */
  #classEscape(set: CharacterClass): boolean {
    const next = this.#peek(1) ?? "";
    if (set.addPerl(next)) {
      this.#at += 2;
      return true;
    }
    if (next !== "p" && next !== "P") return false;
    const found = /^\\[pP](?:\{(\^?)([^}]*)\}|([^{]))/u.exec(this.#rest());
    const name = found?.[2] ?? found?.[3] ?? "";
    const negated = (next === "P") !== (found?.[1] === "^");
    if (!found || !set.addProperty(name, negated)) {
      throw new RegexpSyntaxError("invalid character class range", found?.[0] ?? this.#rest(2));
    }
    this.#at += Array.from(found[0]).length;
    return true;
  }

  #codeEscape(): number {
    const rest = this.#rest(16);
    const octal = /^\\(?:0[0-7]{0,2}|[1-7][0-7]{1,2})/.exec(rest)?.[0];
    const hex = /^\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,8})\})/.exec(rest);
    const next = this.#peek(1);
    if (next === undefined)
      throw new RegexpSyntaxError("trailing backslash at end of expression", "");
    let code: number | undefined;
    let length = 2;
    if (octal !== undefined) {
      code = Number.parseInt(octal.slice(1), 8);
      length = octal.length;
    } else if (hex) {
      code = Number.parseInt(hex[1] ?? hex[2] ?? "", 16);
      length = hex[0].length;
    } else if (Object.hasOwn(controls, next)) code = controls[next];
    else if (/^[^0-9A-Za-z]$/.test(next) && next < "\x80") code = codeOf(next);
    if (code === undefined || code > 0x10ffff) {
      throw new RegexpSyntaxError("invalid escape sequence", this.#rest(2));
    }
    this.#at += length;
    return code;
  }

  #bracket(): CharacterClass {
    const start = this.#at;
    this.#at += 1;
    const set = new CharacterClass();
    if (this.#take("^")) set.negate();
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      if (this.#peek() === undefined) {
        throw new RegexpSyntaxError("missing closing ]", this.#chars.slice(start).join(""));
      }
      if (this.#posix(set)) continue;
      if (this.#peek() === "\\" && this.#classEscape(set)) continue;
      const from = this.#at;
      const low = this.#classCharacter(start);
      let high = low;
      if (this.#peek() === "-" && this.#peek(1) !== undefined && this.#peek(1) !== "]") {
        this.#at += 1;
        high = this.#classCharacter(start);
      }
      if (high < low) {
        const part = this.#chars.slice(from, this.#at).join("");
        throw new RegexpSyntaxError("invalid character class range", part);
      }
      set.add(low, high);
    }
    this.#at += 1;
    return set.seal(this.#flags.fold);
  }

  #classCharacter(start: number): number {
    const c = this.#peek();
    if (c === undefined) {
      throw new RegexpSyntaxError("missing closing ]", this.#chars.slice(start).join(""));
    }
    if (c === "\\") return this.#codeEscape();
    this.#at += 1;
    return codeOf(c);
  }

  #posix(set: CharacterClass): boolean {
    const found = /^\[:(\^?)([^:\]]*):\]/.exec(this.#rest(20));
    if (!found) return false;
    const [text, negated, name = ""] = found;
    if (!set.addPosix(name, negated === "^")) {
      throw new RegexpSyntaxError("invalid character class range", text);
    }
    this.#at += text.length;
    return true;
  }
}

const controls: Readonly<Record<string, number>> = { a: 7, f: 12, t: 9, n: 10, r: 13, v: 11 };

const assertions: Readonly<Record<string, Assertion>> = {
  A: "begin-text",
  z: "end-text",
  b: "word-boundary",
  B: "no-word-boundary",
};

function assertion(which: Assertion): Node {
  return { kind: "assert", assertion: which };
}

function anyCharacter(dotAll: boolean): CharacterClass {
  const set = new CharacterClass();
  if (dotAll) set.add(0, 0x10ffff);
  else {
    set.add(0, 9);
    set.add(11, 0x10ffff);
  }
  return set.seal(false);
}

function codeOf(c: string): number {
  return c.codePointAt(0) ?? 0;
}
