// Fuzzing: `npm run fuzz -- NAME.. [--seed=N] [--runs=N]`. No NAME: all of them. `smoke`: a few inputs each, the same
// every time. What a property does not hold for is kept in test/fuzz/corpus, which every run replays first.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isErrno } from "#pkg/errors.ts";
import { Corpus } from "#test/fuzz/corpus.ts";
import { targetNames } from "#test/fuzz/targets/all.ts";

const corpusRoot = join(import.meta.dirname, "corpus");
const program = join(import.meta.dirname, "one-target.ts");
/** One input may take so long. */
const stallMs = 60_000;
const lookEveryMs = 2_000;

/** Runs one target to its end; what ends or stalls its process is kept as found. */
async function fuzz(
  name: string,
  { seed, runs }: { seed: number; runs: string },
): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), "fuzz-run-"));
  const currentFile = join(dir, "input.json");
  try {
    const args = ["--disable-warning=ExperimentalWarning", program];
    const child = spawn(
      process.execPath,
      [...args, name, String(seed), runs, corpusRoot, currentFile],
      { stdio: "inherit" },
    );
    let stalled = false;
    const startedMs = Date.now();
    const watchdog = setInterval(() => {
      if (Date.now() - changedMs(currentFile, startedMs) < stallMs) return;
      stalled = true;
      child.kill("SIGKILL");
    }, lookEveryMs);
    const { promise, resolve, reject } = Promise.withResolvers<number | string>();
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
    const end = await promise.finally(() => clearInterval(watchdog));
    if (end === 0 || end === 1) return end === 0;
    const how = stalled ? `made no progress for ${stallMs / 1000} s` : `ended by ${end}`;
    const input = await readFile(currentFile, "utf8").catch((error: unknown) => {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    });
    const kept =
      input === undefined ? "" : `: kept as ${await new Corpus(corpusRoot, name).keep(input)}`;
    console.log(`${name}: ${how}, seed ${seed}${kept}`);
    return false;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function changedMs(file: string, otherwise: number): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? otherwise;
}

async function main(): Promise<boolean> {
  const { values, positionals } = parseArgs({
    options: { seed: { type: "string" }, runs: { type: "string" } },
    allowPositionals: true,
  });
  const isSmoke = positionals.includes("smoke");
  const asked = positionals.filter((name) => name !== "smoke");
  const unknown = asked.find((name) => !targetNames.includes(name));
  if (unknown !== undefined) {
    console.error(`no fuzz target ${unknown}; there are ${targetNames.join(", ")}`);
    return false;
  }
  // The gate's inputs are the same every time: what it finds was made by the change it judges.
  const seed = Number(values.seed ?? (isSmoke ? 1 : Math.floor(Math.random() * 2 ** 31)));
  const runs = values.runs ?? (isSmoke ? "smoke" : "1000");
  if (!Number.isSafeInteger(seed) || (runs !== "smoke" && !/^[1-9][0-9]*$/.test(runs))) {
    console.error("--seed=N and --runs=N take whole numbers");
    return false;
  }
  let held = true;
  for (const name of asked.length > 0 ? asked : targetNames) {
    held = (await fuzz(name, { seed, runs })) && held;
  }
  return held;
}

process.exitCode = (await main()) ? 0 : 1;
