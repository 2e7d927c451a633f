import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";

/** A property and the inputs it is tried on. Targets are named as upstream's fuzzers are, without their `Fuzz`. */
export interface FuzzTarget {
  readonly name: string;
  readonly needsRoot: boolean;
  /** How many inputs a smoke run tries. */
  readonly smokeRuns: number;
  /** Rejects when the property does not hold for this input. */
  check(input: unknown): Promise<void>;
  /** Tries random inputs, telling of each before it is tried. */
  search(options: SearchOptions): Promise<SearchResult>;
}

export interface SearchOptions {
  readonly seed: number;
  readonly runs: number;
  readonly onInput: (input: unknown) => void;
}

export interface SearchResult {
  readonly runs: number;
  /** The smallest input found that the property does not hold for. */
  readonly found: { readonly input: unknown; readonly error: unknown } | undefined;
}

/**
 * `inputs` makes plain values only (JSON's, byte arrays and bigints): they are kept in files. `check` throws when the
 * property does not hold; `dir` is an empty directory of its own, gone afterwards.
 */
export function fuzzTarget<Input>(options: {
  readonly name: string;
  readonly inputs: fc.Arbitrary<Input>;
  readonly check: (input: Input, dir: string) => void | Promise<void>;
  readonly needsRoot?: boolean;
  readonly smokeRuns?: number;
}): FuzzTarget {
  const { name, inputs, needsRoot = false, smokeRuns = 50 } = options;
  const check = async (input: Input): Promise<void> => {
    const dir = await mkdtemp(join(tmpdir(), "fuzz-"));
    try {
      await options.check(input, dir);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  };
  return {
    name,
    needsRoot,
    smokeRuns,
    check: (input) => check(input as Input), // -- kept by this target or given by its author
    async search({ seed, runs, onInput }) {
      const property = fc.asyncProperty(inputs, async (input) => {
        onInput(input);
        await check(input);
      });
      const result = await fc.check(property, { seed, numRuns: runs });
      const { counterexample, errorInstance } = result;
      const found = counterexample ? { input: counterexample[0], error: errorInstance } : undefined;
      return { runs: result.numRuns, found };
    },
  };
}
