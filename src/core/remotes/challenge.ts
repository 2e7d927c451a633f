/** What a server wants before it answers: one line of `WWW-Authenticate`. */
export interface Challenge {
  readonly scheme: "bearer" | "digest" | "basic";
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const preference: Readonly<Record<string, number>> = { bearer: 0, digest: 1, basic: 2 };
const tokenForm = /[!#$%&'*+.^_`|~0-9A-Za-z-]*/y;
const spaceForm = /[ \t\r\n]*/y;
const parametersMax = 32;

/**
 * Parses header lines (RFC 9110, 11.6.1; one challenge a line, as registries send them).
 *
 * Bearer before Digest before Basic, whatever their order; other schemes are left out. Parameters
 * end where they stop being well formed, so nothing is ever refused.
 */
export function parseChallenges(lines: readonly string[]): readonly Challenge[] {
  return lines
    .map(parseChallenge)
    .filter((challenge) => challenge !== undefined)
    .toSorted((a, b) => (preference[a.scheme] ?? 0) - (preference[b.scheme] ?? 0));
}

function parseChallenge(line: string): Challenge | undefined {
  const text = new Cursor(line);
  const scheme = text.take(tokenForm).toLowerCase();
  if (scheme !== "bearer" && scheme !== "digest" && scheme !== "basic") return undefined;
  const parameters = new Map<string, string>();
  while (parameters.size < parametersMax) {
    text.take(spaceForm);
    const name = text.take(tokenForm).toLowerCase();
    if (name === "" || !text.takeCharacter("=")) break;
    parameters.set(name, text.takeValue());
    text.take(spaceForm);
    if (!text.takeCharacter(",")) break;
  }
  return { scheme, parameters };
}

class Cursor {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  take(form: RegExp): string {
    form.lastIndex = this.#at;
    const found = form.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  takeCharacter(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  /** A token, or a quoted string without its quotes and escapes; empty where it has no end. */
  takeValue(): string {
    if (!this.takeCharacter('"')) return this.take(tokenForm);
    let value = "";
    for (; this.#at < this.#text.length; this.#at++) {
      const character = this.#text[this.#at];
      if (character === '"') {
        this.#at += 1;
        return value;
      }
      if (character === "\\") this.#at += 1;
      value += this.#text[this.#at] ?? "";
    }
    return "";
  }
}
