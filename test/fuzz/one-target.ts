// One target in a process of its own, which an input may end: `one-target.ts NAME SEED RUNS CORPUS CURRENT-FILE`.
// 0: it held. 1: it did not, and the input is kept. Anything else: the input of CURRENT-FILE ended the process.
import { Corpus } from "#test/fuzz/corpus.ts";
import { loadTarget } from "#test/fuzz/targets/all.ts";
import { tryTarget } from "#test/fuzz/try-target.ts";

const [name = "", seed = "", runs = "", corpusRoot = "", currentFile = ""] = process.argv.slice(2);
const target = await loadTarget(name);
if (target.needsRoot && process.getuid?.() !== 0) {
  console.log(`${name}: skipped, needs root`);
} else {
  const held = await tryTarget(target, {
    corpus: new Corpus(corpusRoot, name),
    seed: Number(seed),
    runs: runs === "smoke" ? target.smokeRuns : Number(runs),
    currentFile,
    print: (line) => console.log(line),
  });
  process.exitCode = held ? 0 : 1;
}
