import { writeFileSync } from "node:fs";
import { type Corpus, encodeInput } from "#test/fuzz/corpus.ts";
import type { FuzzTarget } from "#test/fuzz/target.ts";

export interface TryOptions {
  readonly corpus: Corpus;
  readonly seed: number;
  readonly runs: number;
  /** Holds the input being tried: all that is left of it when it ends the process. */
  readonly currentFile: string;
  readonly print: (line: string) => void;
}

/** Replays what was found before, then tries new inputs. True when the property held for all of them. */
export async function tryTarget(target: FuzzTarget, options: TryOptions): Promise<boolean> {
  const { corpus, seed, runs, currentFile, print } = options;
  const kept = await corpus.load();
  const onInput = (input: unknown): void => writeFileSync(currentFile, encodeInput(input));
  let held = true;
  for (const { file, input } of kept) {
    onInput(input);
    try {
      await target.check(input);
    } catch (error) {
      held = false;
      print(`${target.name}: does not hold for ${file}: ${describe(error)}`);
    }
  }
  const result = await target.search({ seed, runs, onInput });
  const what = `${kept.length} kept and ${result.runs} new inputs, seed ${seed}`;
  if (!result.found) {
    print(`${target.name}: ${what}`);
    return held;
  }
  const encoded = encodeInput(result.found.input);
  const file = await corpus.keep(encoded);
  print(`${target.name}: does not hold, ${what}: ${encoded.slice(0, 2000)}`);
  print(describe(result.found.error));
  print(`${target.name}: kept as ${file}`);
  return false;
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
