export type Token =
  | "eof"
  | "quoted"
  | "value"
  | "field"
  | "separator"
  | "operator"
  | "illegal"
  | "other";

export interface Scanned {
  /** Of its first character, in characters from the start of the input. */
  readonly at: number;
  readonly token: Token;
  readonly text: string;
}

/**
 * Cuts a filter into tokens. What a character means depends on whether an operator came before it.
 */
export class Scanner {
  /** What made the first illegal token illegal. */
  error = "";
  readonly #chars: readonly string[];
  #at = 0;
  #value = false;

  constructor(input: string) {
    this.#chars = Array.from(input);
  }

  get at(): number {
    return this.#at;
  }

  /** The next character as it stands, white space too; undefined at the end. */
  peek(): string | undefined {
    return this.#chars[this.#at];
  }

  scan(): Scanned {
    while (isSpace(this.peek())) this.#at += 1;
    const at = this.#at;
    const token = this.#token(this.#next());
    return { at, token, text: this.#chars.slice(at, this.#at).join("") };
  }

  #token(c: string | undefined): Token {
    if (c === undefined) return "eof";
    if (this.#isIllegal(c)) return "illegal";
    if (c === "/" || c === "|" || c === '"') return this.#quoted(c) ? "quoted" : "illegal";
    if (c === "," || c === ".") {
      this.#value = false;
      return "separator";
    }
    if (isOperator(c)) {
      while (isOperator(this.peek())) this.#at += 1;
      this.#value = true;
      return "operator";
    }
    if (this.#value) {
      while (isValue(this.peek())) this.#at += 1;
      this.#value = false;
      return "value";
    }
    if (!isField(c)) return "other";
    while (isField(this.peek())) this.#at += 1;
    return "field";
  }

  #next(): string | undefined {
    const c = this.peek();
    if (c !== undefined) this.#at += 1;
    return c;
  }

  #isIllegal(c: string): boolean {
    if (c === "\0") this.#fail("unexpected null");
    else if (c === "\ufffd" || /^\p{Surrogate}$/u.test(c)) this.#fail("rune error");
    else return false;
    return true;
  }

  #quoted(quote: string): boolean {
    let legal = true;
    let c = this.#next();
    while (c !== quote) {
      if (c === undefined || c === "\n" || this.#isIllegal(c)) {
        this.#fail("quoted literal not terminated");
        return false;
      }
      const escaped = c === "\\";
      c = this.#next();
      if (!escaped) continue;
      const rest = this.#escape(c, quote);
      if (rest === undefined) legal = false;
      else {
        this.#at += rest;
        c = this.#next();
      }
    }
    return legal;
  }

  /**
   * How many characters follow the one behind the backslash; undefined where there is no such
   * escape.
   */
  #escape(c: string | undefined, quote: string): number | undefined {
    if (c !== undefined && (c === quote || "abfnrtv\\".includes(c))) return 0;
    const digits = numeric(c ?? "");
    if (!digits) {
      this.#fail("illegal escape sequence");
      return undefined;
    }
    const { of, count } = digits;
    const text = this.#chars.slice(this.#at, this.#at + count);
    if (text.length === count && text.every((digit) => of.test(digit))) return count;
    this.#fail("illegal numeric escape sequence");
    return undefined;
  }

  #fail(error: string): void {
    if (this.error === "") this.error = error;
  }
}

/** The digits behind `\x`, `\u`, `\U`, or behind the first of an octal escape. */
export function numeric(c: string): { of: RegExp; count: number } | undefined {
  if (/^[0-7]$/.test(c)) return { of: /^[0-7]$/, count: 2 };
  const count = { x: 2, u: 4, U: 8 }[c];
  return count === undefined ? undefined : { of: /^[0-9A-Fa-f]$/, count };
}

function isSpace(c: string | undefined): boolean {
  return c !== undefined && /^\p{White_Space}$/u.test(c);
}

function isOperator(c: string | undefined): boolean {
  return c === "=" || c === "!" || c === "~";
}

function isField(c: string | undefined): boolean {
  return c !== undefined && /^[A-Za-z0-9_]$/.test(c);
}

function isValue(c: string | undefined): boolean {
  return c !== undefined && c !== "," && c !== "\ufffd" && /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(c);
}
