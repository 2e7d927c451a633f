import assert from "node:assert";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { failpoints, readFailpoints } from "#cmd/containerd/failpoints.ts";
import { projectDir } from "#cmd/containerd/project.ts";
import { formatText } from "#pkg/log-format.ts";
import { LogWriter } from "#pkg/log-writer.ts";

function read(spec: string | undefined) {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = new LogWriter({ level: "info", format: formatText, write });
  return { failpoints: readFailpoints(spec, log.root), log: lines.join("") };
}

test("the list of failpoints is the list of places that hit one", () => {
  const sources = globSync("src/**/*.ts", {
    cwd: projectDir,
    exclude: ["src/api/gen/**", "src/**/*.test.ts"],
  });
  const hit = new Set<string>();
  for (const source of sources) {
    const text = readFileSync(join(projectDir, source), "utf8");
    for (const [, name] of text.matchAll(/\bfailpoints\.hit\("([^"]+)"\)/g)) hit.add(name ?? "");
  }
  assert.deepStrictEqual(Object.keys(failpoints).toSorted(), [...hit].toSorted());
});

test("failpoints that are on are told of, and act", () => {
  const { failpoints: on, log } = read("content.after-sync=error:2");
  assert.match(
    log,
    /level=warning msg="failpoints are on: .*" failpoints="content.after-sync=error:2"/,
  );
  on.hit("content.after-sync");
  assert.throws(() => on.hit("content.after-sync"), /failpoint content\.after-sync/);
});

test("without the variable nothing is said and nothing fails", () => {
  for (const spec of [undefined, ""]) {
    const { failpoints: off, log } = read(spec);
    assert.strictEqual(log, "");
    off.hit("content.after-sync");
  }
});

test("a name that is no failpoint, and what does not parse, is refused", () => {
  assert.throws(() => read("content.after-synk=kill"), /"content.after-synk" is no failpoint/);
  assert.throws(() => read("content.after-sync=sleep"), /is not of the form/);
});
