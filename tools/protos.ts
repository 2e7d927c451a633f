// Generates src/api/gen from proto/: `npm run protos`. With --check it writes nothing and says what is out of date.
import { spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";

const project = resolve(import.meta.dirname, "..");
const generated = join(project, "src/api/gen");

/** Runs buf, which writes below `output`: the plugin's folder in buf.gen.yaml is relative to it. */
function generate(output: string): void {
  const buf = join(project, "node_modules/@bufbuild/buf/bin/buf");
  // buf's launcher and the plugin are scripts that start the `node` of PATH.
  const PATH = `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}`;
  const result = spawnSync(process.execPath, [buf, "generate", "--output", output], {
    cwd: project,
    env: { ...process.env, PATH },
    stdio: "inherit",
  });
  if (result.status !== 0) throw new Error(`buf generate: exit ${result.status}`);
}

/** Files that differ between two folders, or are in one only. */
function differences(left: string, right: string): string[] {
  const files = (folder: string): string[] => globSync("**/*.ts", { cwd: folder });
  const all = new Set([...files(left), ...files(right)]);
  return [...all].filter((file) => read(join(left, file)) !== read(join(right, file))).toSorted();
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

if (process.argv.includes("--check")) {
  const scratch = mkdtempSync(join(tmpdir(), "protos-"));
  try {
    generate(scratch);
    const stale = differences(join(scratch, "src/api/gen"), generated);
    for (const file of stale)
      console.error(`src/api/gen/${file}: not what proto/ gives: npm run protos`);
    process.exitCode = stale.length > 0 ? 1 : 0;
  } finally {
    rmSync(scratch, { recursive: true });
  }
} else {
  rmSync(generated, { recursive: true, force: true });
  generate(project);
}
