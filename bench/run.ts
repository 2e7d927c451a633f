// Compares this daemon with Go's: `node bench/run.ts`, `node bench/run.ts exec memory`, `node bench/run.ts --help`.
import { mkdir, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { prepareHost } from "#test/support/prepare-host.ts";
import { openRoom } from "#test/support/room.ts";
import type { Bench } from "./bench.ts";
import { ctrRun } from "./ctr-run.ts";
import { exec } from "./exec.ts";
import { importImage } from "./import-image.ts";
import { factLines, machineFacts } from "./machine.ts";
import { Measures } from "./measures.ts";
import { memory } from "./memory.ts";
import { pull } from "./pull.ts";
import { recover } from "./recover.ts";
import { rpc } from "./rpc.ts";
import { scale } from "./scale.ts";
import { Stage, type StageOptions } from "./stage.ts";
import { startDelete } from "./start-delete.ts";
import { stuck } from "./stuck.ts";
import { tableOf } from "./table.ts";

const benches: readonly Bench[] = [
  ctrRun,
  exec,
  stuck,
  startDelete,
  memory,
  rpc,
  importImage,
  pull,
  recover,
  scale,
];

const usage = `node bench/run.ts [NAME...] [options]      as root, after npm run setup

${benches.map(({ name, about }) => `  ${name.padEnd(14)}${about}`).join("\n")}

  --rounds=N       how often each thing is measured; a bench has its own default
  --scale=X        multiplies containers, blobs and bytes; below 1 only to see that it runs
  --large          the larger variants: 100 containers in recover
  --only=KIND      go or ours alone, for a profile
  --runtime=NAME   runc or crun on both sides, instead of each one's default
  --profile=DIR    our daemon writes a CPU profile there when it ends
  --json[=FILE]    JSON to standard output, or to a file beside the table

A ratio below 1 says that ours is better, whichever way the unit points.`;

async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (process.getuid?.() !== 0) throw new Error("needs root");
  const chosen = choose(positionals);
  const quiet = values.json === "";
  const say = (line: string): void => {
    if (!quiet) console.log(line);
    else console.error(line);
  };
  if (values.profile !== undefined) await mkdir(values.profile, { recursive: true });
  await prepareHost(say);
  const facts = await machineFacts();
  say(factLines(facts).join("\n"));
  const measures = new Measures();
  const failed: string[] = [];
  for (const bench of chosen) {
    const started = performance.now();
    try {
      await runBench(bench, { measures, say, ...optionsOf(values, bench) });
    } catch (error) {
      failed.push(bench.name);
      console.error(`${bench.name} failed:`, error);
    }
    say(`   ${bench.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
  const rows = measures.rows();
  say(`\n${tableOf(rows)}`);
  const report = `${JSON.stringify({ machine: facts, rows, failed }, undefined, 2)}\n`;
  if (quiet) process.stdout.write(report);
  else if (values.json !== undefined) await writeFile(values.json, report);
  return failed.length > 0 ? 1 : 0;
}

function parse(argv: readonly string[]) {
  return parseArgs({
    // parseArgs knows no option whose value may be left out.
    args: argv.map((arg) => (arg === "--json" ? "--json=" : arg)),
    allowPositionals: true,
    options: {
      help: { type: "boolean" },
      json: { type: "string" },
      large: { type: "boolean" },
      only: { type: "string" },
      profile: { type: "string" },
      rounds: { type: "string" },
      runtime: { type: "string" },
      scale: { type: "string" },
    },
  });
}

type Values = ReturnType<typeof parse>["values"];

function optionsOf(
  values: Values,
  bench: Bench,
): Omit<StageOptions, "bench" | "room" | "measures" | "say"> {
  const { only, runtime } = values;
  if (only !== undefined && only !== "go" && only !== "ours") throw new Error(`--only=${only}`);
  return {
    kinds: only === undefined ? ["go", "ours"] : [only],
    rounds: positive("rounds", values.rounds) ?? bench.rounds,
    scale: positive("scale", values.scale) ?? 1,
    runtime,
    large: values.large ?? false,
    profileDir: values.profile === undefined ? undefined : resolve(values.profile),
  };
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name}=${text}: a number above 0 is needed`);
  return value;
}

function choose(names: readonly string[]): readonly Bench[] {
  const unknown = names.find((name) => !benches.some((bench) => bench.name === name));
  if (unknown !== undefined) throw new Error(`no bench is called ${unknown}\n\n${usage}`);
  return names.length === 0 ? benches : benches.filter(({ name }) => names.includes(name));
}

async function runBench(
  bench: Bench,
  options: Omit<StageOptions, "bench" | "room">,
): Promise<void> {
  options.say(`== ${bench.name}: ${bench.about}`);
  // A supervisor goes ten seconds after its last container.
  const { room, close } = await openRoom(undefined, { settleMs: 15_000 });
  try {
    await bench.measure(new Stage({ ...options, bench: bench.name, room }));
  } catch (error) {
    await close().catch((left: unknown) => console.error(left)); // -- the first failure counts
    throw error;
  }
  await close();
}

process.exitCode = await main(process.argv.slice(2));
