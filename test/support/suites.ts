import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative, resolve } from "node:path";
import { Transform } from "node:stream";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import type { Skip, Tally } from "#test/support/tally.ts";

export interface Suite {
  readonly name: string;
  /** Absolute. */
  readonly files: readonly string[];
  readonly needsRoot: boolean;
  /** How many files run at a time. */
  readonly concurrency: number;
}

const cores = availableParallelism();
const project = resolve(import.meta.dirname, "../..");
const names = ["unit", "root", "compat", "long"] as const;

/** Nothing fits what was asked for. */
export class NoSuchTests extends Error {}

/**
 * The suites an argument list names: `unit`, `root`, `compat`, `long NAME`, or files. None named: all but `long`.
 * Throws where a name fits nothing, so that a misspelt file is no success.
 */
export function suitesFor(args: readonly string[]): Suite[] {
  const all = allSuites();
  if (args[0] === "long") return [longSuite(args[1])];
  const chosen = args.filter((arg) => names.some((name) => name === arg));
  const patterns = args.filter((arg) => !chosen.includes(arg));
  const suites = chosen.length > 0 ? all.filter((suite) => chosen.includes(suite.name)) : all;
  const narrowed = suites.map((suite) => ({ ...suite, files: suite.files.filter(fits(patterns)) }));
  const found = narrowed.filter((suite) => suite.files.length > 0);
  if (found.length === 0) throw new NoSuchTests(`no test file fits ${args.join(" ")}`);
  return found;
}

function fits(patterns: readonly string[]): (file: string) => boolean {
  return (file) =>
    patterns.length === 0 || patterns.some((pattern) => relative(project, file).includes(pattern));
}

function allSuites(): Suite[] {
  const files = globSync("{src,tools,test}/**/*.test.ts", {
    cwd: project,
    exclude: ["tools/node/node_modules/**", "src/api/gen/**"],
  }).toSorted();
  const paths = files.filter((file) => !file.endsWith(".long.test.ts"));
  const isCompat = (file: string): boolean => file.startsWith("test/compat/");
  const isRoot = (file: string): boolean => file.endsWith(".root.test.ts");
  const suite = (name: string, choose: (file: string) => boolean, needsRoot: boolean): Suite => ({
    name,
    files: paths.filter(choose).map((file) => join(project, file)),
    needsRoot,
    // Suites with containers run one file after the other: what they start is seen by every neighbour.
    concurrency: needsRoot ? 1 : cores,
  });
  return [
    suite("unit", (file) => !isRoot(file), false),
    suite("root", (file) => isRoot(file) && !isCompat(file), true),
    suite("compat", (file) => isRoot(file) && isCompat(file), true),
  ];
}

function longSuite(name: string | undefined): Suite {
  const all = globSync("test/**/*.long.test.ts", { cwd: project });
  const files = all.filter((file) => name !== undefined && file.includes(name));
  if (files.length === 0) {
    throw new NoSuchTests(
      `npm run test:long -- NAME, with NAME one of: ${all.join(", ") || "(none yet)"}`,
    );
  }
  const paths = files.map((file) => join(project, file));
  return { name: "long", files: paths, needsRoot: true, concurrency: 1 };
}

export async function runSuite(suite: Suite, { verbose }: { verbose: boolean }): Promise<Tally> {
  const started = performance.now();
  const skips: Skip[] = [];
  const counts = { tests: 0, passed: 0, failed: 0, cancelled: 0, todo: 0 };
  const events = run({
    files: suite.files,
    concurrency: suite.concurrency,
    execArgv: ["--disable-warning=ExperimentalWarning"],
    cwd: project,
  });
  events.on("test:pass", ({ name, skip, file = "", entryFile = file }) => {
    if (skip === undefined || skip === false) return;
    const reason = skip === true ? "no reason given" : skip;
    skips.push({ file: relative(project, entryFile), name, reason });
  });
  const failedFiles = new Set<string>();
  events.on("test:fail", ({ file, entryFile = file }) => {
    if (entryFile !== undefined) failedFiles.add(entryFile);
  });
  events.on("test:summary", (summary) => {
    if (summary.file === undefined) Object.assign(counts, summary.counts);
  });
  const shown = verbose ? events : events.pipe(withoutSuccesses());
  const text = shown.pipe(new spec());
  text.pipe(process.stdout, { end: false });
  await finished(text);
  const durationMs = performance.now() - started;
  return { suite: suite.name, ...counts, failedFiles: [...failedFiles], skips, durationMs };
}

const secondTriesMax = 3;

/**
 * Runs files that failed once more, each alone on the machine, and says so: clients of a busy machine run out of time.
 *
 * What fails twice has failed, and so have more than three files.
 */
export async function runSuiteTwice(suite: Suite, options: { verbose: boolean }): Promise<Tally> {
  const first = await runSuite(suite, options);
  const files = first.failedFiles;
  if (files.length === 0 || files.length > secondTriesMax) return first;
  for (const file of files) console.log(`second try: ${relative(project, file)}`);
  const second = await runSuite({ ...suite, files }, options);
  console.log(`second try: ${first.failed} failed before, ${second.failed} now`);
  return {
    ...first,
    passed: first.passed + first.failed + first.cancelled - second.failed - second.cancelled,
    failed: second.failed,
    cancelled: second.cancelled,
    failedFiles: second.failedFiles,
    durationMs: first.durationMs + second.durationMs,
  };
}

interface ReporterEvent {
  readonly type: string;
  readonly data: { readonly file?: string };
}

/** Failures and output only, and without the totals of each suite, which follow once at the end. */
function withoutSuccesses(): Transform {
  const kept = new Set(["test:fail", "test:stdout", "test:stderr"]);
  return new Transform({
    objectMode: true,
    transform(event: ReporterEvent, _encoding, done) {
      const ofFile = event.type === "test:diagnostic" && event.data.file !== undefined;
      if (kept.has(event.type) || ofFile) this.push(event);
      done();
    },
  });
}
