// Runs the tests: `npm test`, `npm test -- unit`, `npm test -- src/pkg/digest.test.ts`, `npm test -- --verbose root`.
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { prepareHost } from "#test/support/prepare-host.ts";
import { surveyMachine } from "#test/support/machine.ts";
import { descendantsOf } from "#test/support/processes.ts";
import { adoptOrphans } from "#test/support/reaper.ts";
import { emptyTally, judgeSkips, summaryLines, type Tally } from "#test/support/tally.ts";
import { runSuite, type Suite, suitesFor } from "#test/support/suites.ts";

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
  const suites = await suitesFor(argv.filter((arg) => arg !== "--verbose"));
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
  if (suite.needsRoot) await prepareHost((line) => console.log(line));
  const before = await surveyMachine();
  const tally = await runSuite(suite, { verbose });
  const left = await endStragglers();
  if (suite.needsRoot) {
    const after = await surveyMachine();
    const changes = [...after].filter((thing) => !before.has(thing));
    // Others may work on this machine; on one of CI's nobody does.
    if (inCi) left.push(...changes);
    else for (const change of changes) console.log(`new on this machine: ${change}`);
  }
  for (const thing of left) console.log(`left behind by ${suite.name}: ${thing}`);
  const failed = left.length > 0 ? tally.failed + 1 : tally.failed;
  return { ...tally, failed };
}

/** Processes that outlived the test file that started them. */
async function endStragglers(): Promise<string[]> {
  const stragglers = (await descendantsOf(process.pid)).filter((info) => info.state !== "Z");
  for (const info of stragglers) process.kill(info.pid, "SIGKILL");
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

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  await main(process.argv.slice(2));
