// The one gate: `npm run ok`. Runs every check, tests last, and fails when any of them does.
import { spawnSync } from "node:child_process";
import { delimiter, dirname, join, resolve } from "node:path";

const project = resolve(import.meta.dirname, "..");
const modules = join(project, "node_modules");
const targets = ["src", "test", "tools", "bench"];
const checks: readonly (readonly [name: string, file: string, ...args: string[]])[] = [
  ["typecheck", `${modules}/typescript/bin/tsc`, "-p", "."],
  ["lint", `${modules}/oxlint/bin/oxlint`, "--type-aware", "--deny-warnings", ...targets],
  ["format", `${modules}/@biomejs/biome/bin/biome`, "format", ...targets],
  ["tidy", "tools/tidy.ts"],
  ["protos", "tools/protos.ts", "--check"],
  ["fuzz", "test/fuzz/run.ts", "smoke"],
  ["tests", "test/run.ts"],
];

// The linters' launchers start the `node` of PATH.
const PATH = `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}`;
const results = checks.map(([name, file, ...args]) => {
  const started = performance.now();
  console.log(`== ${name}`);
  const { status } = spawnSync(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", file, ...args],
    { cwd: project, stdio: "inherit", env: { ...process.env, PATH } },
  );
  const line = `${name} ${status === 0 ? "ok" : "FAILED"} in ${((performance.now() - started) / 1000).toFixed(1)} s`;
  // The test runner's summary stays the last thing that is said.
  if (name !== "tests") console.log(line);
  return { name, ok: status === 0 };
});
const failed = results.filter((result) => !result.ok).map((result) => result.name);
if (failed.length > 0) console.error(`npm run ok: failed: ${failed.join(", ")}`);
process.exitCode = failed.length > 0 ? 1 : 0;
