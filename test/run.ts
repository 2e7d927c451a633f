// Runs the tests: `npm test`, `npm test -- unit`, `npm test -- src/pkg/digest.test.ts`, `npm test -- --verbose root`.
import { writeFileSync } from "node:fs";
import { prepareHost } from "#test/support/prepare-host.ts";
import { surveyMachine } from "#test/support/machine.ts";
import { descendantsOf, killIfThere } from "#test/support/processes.ts";
import { adoptOrphans } from "#test/support/reaper.ts";
import { emptyTally, judgeSkips, summaryLines, type Tally } from "#test/support/tally.ts";
import { NoSuchTests, runSuiteTwice, type Suite, suitesFor } from "#test/support/suites.ts";

const started = performance.now();
const inCi = process.env["CI"] === "true";
const isRoot = process.getuid?.() === 0;

async function main(argv: readonly string[]): Promise<void> {
  if (!isRoot && process.env["SUDO_UID"] !== undefined) {
    // npm before version 9 runs scripts as the owner of the folder.
    console.log(
      "npm gave up the rights that sudo gave it: run `sudo sh tools/node.sh test/run.ts`",
    );
    process.exitCode = 1;
    return;
  }
  adoptOrphans();
  const verbose = argv.includes("--verbose");
  const suites = suitesFor(argv.filter((arg) => arg !== "--verbose"));
  const tallies: Tally[] = [];
  for (const suite of suites) tallies.push(await runOne(suite, verbose));
  report(tallies);
}

async function runOne(suite: Suite, verbose: boolean): Promise<Tally> {
  if (suite.needsRoot && !isRoot) {
    const reason = `${suite.files.length} files need root: sudo npm test -- ${suite.name}`;
    return { ...emptyTally(suite.name), skips: [{ file: suite.name, name: "suite", reason }] };
  }
  console.log(`== ${suite.name}: ${suite.files.length} files`);
  if (!suite.needsRoot) {
    const tally = await runSuiteTwice(suite, { verbose });
    return withLeftovers(tally, await endStragglers());
  }
  await prepareHost((line) => console.log(line));
  const before = await surveyMachine();
  const tally = await runSuiteTwice(suite, { verbose });
  const left = await endStragglers();
  const changes = [...(await surveyMachine())].filter((thing) => !before.has(thing));
  // Others may work on this machine; on one of CI's nobody does.
  if (inCi) return withLeftovers(tally, [...left, ...changes]);
  for (const change of changes) console.log(`new on this machine: ${change}`);
  return withLeftovers(tally, left);
}

function withLeftovers(tally: Tally, left: readonly string[]): Tally {
  for (const thing of left) console.log(`left behind by ${tally.suite}: ${thing}`);
  return left.length > 0 ? { ...tally, failed: tally.failed + 1 } : tally;
}

/** Processes that outlived the test file that started them. */
async function endStragglers(): Promise<string[]> {
  const stragglers = (await descendantsOf(process.pid)).filter((info) => info.state !== "Z");
  for (const info of stragglers) killIfThere(info.pid);
  return stragglers.map((info) => `process ${info.pid}: ${info.command}`);
}

function report(tallies: readonly Tally[]): void {
  const unexpected = judgeSkips(tallies);
  const lines = summaryLines(tallies, {
    unexpectedSkips: inCi ? unexpected : [],
    durationMs: performance.now() - started,
  });
  console.log(lines.join("\n"));
  const file = process.env["CONTAINERD_TEST_SUMMARY"];
  if (file !== undefined) writeFileSync(file, `${lines.join("\n")}\n`);
  const failed = tallies.some((tally) => tally.failed > 0) || (inCi && unexpected.length > 0);
  process.exitCode = failed ? 1 : 0;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof NoSuchTests)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
