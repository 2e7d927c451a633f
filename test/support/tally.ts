import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Skip {
  /** Relative to the project. */
  readonly file: string;
  readonly name: string;
  readonly reason: string;
}

export interface Tally {
  readonly suite: string;
  readonly tests: number;
  readonly passed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly todo: number;
  /** Absolute. */
  readonly failedFiles: readonly string[];
  readonly skips: readonly Skip[];
  readonly durationMs: number;
}

export function emptyTally(suite: string): Tally {
  const counts = { tests: 0, passed: 0, failed: 0, cancelled: 0, todo: 0 };
  return { suite, ...counts, failedFiles: [], skips: [], durationMs: 0 };
}

interface ExpectedSkip {
  /** Any file where it is left out. */
  readonly file?: string;
  readonly reason: string;
  readonly why: string;
}

/** The skips that test/expected-skips.json does not list. A machine of CI must have everything but these. */
export function judgeSkips(
  tallies: readonly Tally[],
  expected: readonly ExpectedSkip[] = readExpected(),
): Skip[] {
  return tallies
    .flatMap((tally) => tally.skips)
    .filter(
      (skip) =>
        !expected.some((e) => (e.file ?? skip.file) === skip.file && e.reason === skip.reason),
    );
}

function readExpected(): ExpectedSkip[] {
  const path = join(import.meta.dirname, "../expected-skips.json");
  // -- a file of this project, read by nothing but its tests
  return JSON.parse(readFileSync(path, "utf8")) as ExpectedSkip[];
}

/** Ends with the lines node's own runner ends with, over all suites, so that what reads those can read these. */
export function summaryLines(
  tallies: readonly Tally[],
  options: { readonly unexpectedSkips: readonly Skip[]; readonly durationMs: number },
): string[] {
  const sum = (pick: (tally: Tally) => number): number =>
    tallies.reduce((total, tally) => total + pick(tally), 0);
  const skipped = sum((tally) => tally.skips.length);
  const passed = sum((tally) => tally.passed);
  const failed = sum((tally) => tally.failed) + options.unexpectedSkips.length;
  const cancelled = sum((tally) => tally.cancelled);
  const todo = sum((tally) => tally.todo);
  return [
    ...skipLines(tallies),
    ...options.unexpectedSkips.map(
      (skip) => `not in test/expected-skips.json: ${skip.file}: ${skip.name}: ${skip.reason}`,
    ),
    ...tallies.map(suiteLine),
    `# tests ${passed + failed + cancelled + skipped + todo}`,
    `# suites ${tallies.length}`,
    `# pass ${passed}`,
    `# fail ${failed}`,
    `# cancelled ${cancelled}`,
    `# skipped ${skipped}`,
    `# todo ${todo}`,
    `# duration_ms ${options.durationMs.toFixed(0)}`,
  ];
}

function suiteLine(tally: Tally): string {
  const counts = `${tally.passed} passed, ${tally.failed + tally.cancelled} failed, ${tally.skips.length} skipped`;
  return `${tally.suite.padEnd(8)} ${counts}, ${(tally.durationMs / 1000).toFixed(1)} s`;
}

function skipLines(tallies: readonly Tally[]): string[] {
  const byReason = Map.groupBy(
    tallies.flatMap((tally) => tally.skips),
    (skip) => skip.reason,
  );
  return [...byReason].map(([reason, skips]) => {
    const names = skips.map((skip) => (skip.name === "suite" ? skip.file : skip.name));
    return `skipped, ${reason}: ${names.join("; ")}`;
  });
}
