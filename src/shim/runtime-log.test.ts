import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { describeRuntimeError, lastErrorIn } from "./runtime-log.ts";

const failure = "runc did not terminate successfully: exit status 1";
const line = (level: string, msg: string): string => `${JSON.stringify({ level, msg })}\n`;

suite("runtime log", () => {
  test("lastErrorIn() takes the last error, whatever stands after it", () => {
    const errors = line("error", "first") + line("error", " second \n");
    const text = `${errors}${line("warning", "w")}{"le`;
    assert.equal(lastErrorIn(text), "second");
    assert.equal(lastErrorIn(line("info", "x")), undefined);
  });

  test("describeRuntimeError() does not repeat what an earlier call logged", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "runtime-log-")), "log.json");
    const before = line("error", "old");
    await writeFile(path, before + line("error", "new"));
    const words = (fromByte: number) => describeRuntimeError("ctx", { path, fromByte }, failure);
    assert.equal(await words(before.length), "ctx: new");
    await writeFile(path, before);
    assert.equal(await words(before.length), `ctx: ${failure}`);
  });

  test("describeRuntimeError() says that there is no log", async () => {
    const log = { path: "/nonexistent/log.json", fromByte: 0 };
    assert.equal(
      await describeRuntimeError("ctx", log, failure),
      "ctx: unable to retrieve OCI runtime error " +
        `(open /nonexistent/log.json: no such file or directory): ${failure}`,
    );
  });
});
