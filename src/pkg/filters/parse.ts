import { invalidArgument, messageOf } from "#pkg/errors.ts";
import type { Adaptor, Filter } from "#pkg/filters/filter.ts";
import { unquote } from "#pkg/filters/quote.ts";
import { Regexp } from "#pkg/filters/regexp.ts";
import { RegexpSyntaxError } from "#pkg/filters/regexp-syntax.ts";
import { type Scanned, Scanner } from "#pkg/filters/scanner.ts";

/** A filter may name a label of 4096 bytes and its value, each escaped. */
const lengthMax = 65_536;

/**
 * Reads containerd's filter language:
 *
 *     selectors := selector ("," selector)*          all must match
 *     selector  := fieldpath [operator value]         without operator: the field is present
 *     fieldpath := field ("." field)*
 *     field     := quoted | [A-Za-z0-9_]+
 *     operator  := "==" | "!=" | "~="                 the last is a regular expression in Go's syntax
 *     value     := quoted | [^\s,]+
 *     quoted    := a Go string; behind "~=" also between "/" or "|"
 *
 * The empty filter matches everything. Throws `invalid-argument` with upstream's words; a regular
 * expression that does not compile is refused here as well, where upstream would silently match
 * nothing.
 */
export function parseFilter(input: string): Filter {
  if (input === "") return () => true;
  if (input.length > lengthMax) {
    throw invalidArgument(`filters: filter of ${input.length} characters, limit ${lengthMax}`);
  }
  try {
    const selectors = new Parser(input).selectors();
    return (adaptor) => selectors.every((selector) => selector(adaptor));
  } catch (error) {
    if (!(error instanceof ParseError || error instanceof RegexpSyntaxError)) throw error;
    throw invalidArgument(`filters: ${messageOf(error)}`, { cause: error });
  }
}

/** Matches what any of the filters matches; without filters, everything. */
export function parseFilters(inputs: readonly string[] = []): Filter {
  if (inputs.length === 0) return () => true;
  const filters = inputs.map(parseFilter);
  return (adaptor) => filters.some((filter) => filter(adaptor));
}

class ParseError extends Error {
  override readonly name = "ParseError";

  constructor(input: string, at: number, problem: string) {
    const chars = Array.from(input);
    const here = chars[at];
    const before = chars.slice(0, at).join("");
    const where =
      here === undefined ? input : `${before} >|${here}|< ${chars.slice(at + 1).join("")}`;
    super(`parse error: [${where}]: ${problem}`);
  }
}

class Parser {
  readonly #input: string;
  readonly #scanner: Scanner;

  constructor(input: string) {
    this.#input = input;
    this.#scanner = new Scanner(input);
  }

  selectors(): Filter[] {
    const selectors = [this.#selector()];
    for (let c = this.#scanner.peek(); c !== undefined; c = this.#scanner.peek()) {
      if (c !== ",") throw this.#error(this.#scanner.at, `unexpected input: ${c}`);
      this.#scanner.scan();
      selectors.push(this.#selector());
    }
    return selectors;
  }

  #selector(): Filter {
    const path = this.#fieldpath();
    const next = this.#scanner.peek();
    if (next === undefined || next === ",") return (adaptor) => adaptor(path) !== undefined;
    const operator = this.#operator();
    const value = this.#value(operator === "~=");
    return selector(path, operator, value);
  }

  #fieldpath(): string[] {
    const path = [this.#field()];
    while (this.#scanner.peek() === ".") {
      this.#scanner.scan();
      path.push(this.#field());
    }
    return path;
  }

  #field(): string {
    const scanned = this.#scan();
    if (scanned.token === "field") return scanned.text;
    if (scanned.token === "quoted") return this.#unquote(scanned, false);
    throw this.#error(scanned.at, "expected field or quoted");
  }

  #operator(): Operator {
    const { at, token, text } = this.#scan();
    if (token !== "operator") throw this.#error(at, 'expected an operator ("=="|"!="|"~=")');
    if (text === "==" || text === "!=" || text === "~=") return text;
    throw this.#error(at, `unsupported operator ${JSON.stringify(text)}`);
  }

  #value(regexp: boolean): string {
    const scanned = this.#scan();
    if (scanned.token === "value" || scanned.token === "field") return scanned.text;
    if (scanned.token === "quoted") return this.#unquote(scanned, regexp);
    throw this.#error(scanned.at, "expected value or quoted");
  }

  #unquote({ at, text }: Scanned, regexp: boolean): string {
    if (!regexp && !text.startsWith('"')) throw this.#error(at, "invalid quote encountered");
    const value = unquote(text);
    if (value === undefined) throw this.#error(at, "unquoting failed: quote syntax error");
    return value;
  }

  #scan(): Scanned {
    const scanned = this.#scanner.scan();
    if (scanned.token === "illegal") throw this.#error(scanned.at, this.#scanner.error);
    return scanned;
  }

  #error(at: number, problem: string): ParseError {
    return new ParseError(this.#input, at, problem);
  }
}

type Operator = "==" | "!=" | "~=";

function selector(path: readonly string[], operator: Operator, value: string): Filter {
  switch (operator) {
    case "==":
      return (adaptor: Adaptor) => adaptor(path) === value;
    case "!=":
      return (adaptor: Adaptor) => (adaptor(path) ?? "") !== value;
    case "~=": {
      const regexp = new Regexp(value);
      return (adaptor: Adaptor) => regexp.matches(adaptor(path) ?? "");
    }
  }
}
