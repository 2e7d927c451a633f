import type { CharacterClass } from "#pkg/filters/character-class.ts";
import {
  type Assertion,
  type Node,
  parseRegexp,
  RegexpSyntaxError,
} from "#pkg/filters/regexp-syntax.ts";

/**
 * A program of this many steps against a value of `n` characters takes at most their product of
 * work.
 */
const programMax = 4096;

type Instruction =
  | { readonly op: "class"; readonly class: CharacterClass }
  | { readonly op: "assert"; readonly assertion: Assertion }
  | { readonly op: "split"; to: number[] }
  | { readonly op: "match" };

/**
 * A regular expression in Go's syntax that answers in time linear in the text, whatever the
 * expression: it comes from clients, so an engine that backtracks would let one of them stop the
 * daemon.
 *
 * Throws `RegexpSyntaxError` with Go's words.
 */
export class Regexp {
  readonly #program: Instruction[] = [];

  constructor(source: string) {
    this.#emit(parseRegexp(source), source);
    this.#push({ op: "match" }, source);
  }

  /** True when the expression matches anywhere in the text. */
  matches(text: string): boolean {
    const codes = Array.from(text, (c) => c.codePointAt(0) ?? 0);
    let current = new Set<number>();
    for (let at = 0; ; at++) {
      if (this.#follow(0, codes, at, current)) return true;
      if (at === codes.length) return false;
      const next = new Set<number>();
      for (const pc of current) {
        const step = this.#program[pc];
        if (step?.op !== "class" || !step.class.has(codes[at] ?? 0)) continue;
        if (this.#follow(pc + 1, codes, at + 1, next)) return true;
      }
      current = next;
    }
  }

  /**
   * Adds the states reached from `pc` without reading a character; true when one of them is the
   * match.
   */
  #follow(pc: number, codes: readonly number[], at: number, states: Set<number>): boolean {
    const pending = [pc];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      if (states.has(next)) continue;
      states.add(next);
      const step = this.#program[next];
      if (step?.op === "match") return true;
      if (step?.op === "split") pending.push(...step.to);
      if (step?.op === "assert" && holds(step.assertion, codes, at)) pending.push(next + 1);
    }
    return false;
  }

  #push(instruction: Instruction, source: string): number {
    if (this.#program.length >= programMax) {
      throw new RegexpSyntaxError("expression too large", source.slice(0, 80));
    }
    return this.#program.push(instruction) - 1;
  }

  #emit(node: Node, source: string): void {
    switch (node.kind) {
      case "class":
        this.#push({ op: "class", class: node.class }, source);
        return;
      case "assert":
        this.#push({ op: "assert", assertion: node.assertion }, source);
        return;
      case "concat":
        for (const each of node.nodes) this.#emit(each, source);
        return;
      case "alternate":
        this.#alternate(node.nodes, source);
        return;
      case "repeat":
        this.#repeat(node, source);
    }
  }

  #alternate(nodes: readonly Node[], source: string): void {
    const fork: Instruction = { op: "split", to: [] };
    this.#push(fork, source);
    const ends: { to: number[] }[] = [];
    for (const each of nodes) {
      fork.to.push(this.#program.length);
      this.#emit(each, source);
      const end: Instruction = { op: "split", to: [] };
      this.#push(end, source);
      ends.push(end);
    }
    for (const end of ends) end.to = [this.#program.length];
  }

  #repeat(node: Extract<Node, { kind: "repeat" }>, source: string): void {
    for (let i = 0; i < node.min; i++) this.#emit(node.node, source);
    if (node.max === Number.POSITIVE_INFINITY) {
      const loop: Instruction = { op: "split", to: [] };
      const top = this.#push(loop, source);
      this.#emit(node.node, source);
      this.#push({ op: "split", to: [top] }, source);
      loop.to = [top + 1, this.#program.length];
      return;
    }
    const skips: { to: number[] }[] = [];
    for (let i = node.min; i < node.max; i++) {
      const skip: Instruction = { op: "split", to: [] };
      skip.to.push(this.#push(skip, source) + 1);
      skips.push(skip);
      this.#emit(node.node, source);
    }
    for (const skip of skips) skip.to.push(this.#program.length);
  }
}

function holds(assertion: Assertion, codes: readonly number[], at: number): boolean {
  switch (assertion) {
    case "begin-text":
      return at === 0;
    case "end-text":
      return at === codes.length;
    case "begin-line":
      return at === 0 || codes[at - 1] === 10;
    case "end-line":
      return at === codes.length || codes[at] === 10;
    case "word-boundary":
      return isWord(codes[at - 1]) !== isWord(codes[at]);
    case "no-word-boundary":
      return isWord(codes[at - 1]) === isWord(codes[at]);
  }
}

function isWord(code: number | undefined): boolean {
  return code !== undefined && code < 128 && /\w/.test(String.fromCharCode(code));
}
