import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  formatExitRecord,
  parseExitRecord,
  readExitRecord,
  writeExitRecord,
} from "./exit-record.ts";

suite("exit record", () => {
  test("formatExitRecord() writes Go's JSON", () => {
    const exit = { pid: 12, status: 137, at: 1_700_000_000_120_000_000n };
    const text = '{"Timestamp":"2023-11-14T22:13:20.12Z","Pid":12,"Status":137}';
    assert.equal(formatExitRecord(exit), text);
  });

  test("parseExitRecord() reads back every record", () => {
    const exit = fc.record({
      pid: fc.integer({ min: 1, max: 4_194_304 }),
      status: fc.integer({ min: 0, max: 255 }),
      at: fc.bigInt({ min: 1_000_000_000n, max: 4_000_000_000_000_000_000n }),
    });
    fc.assert(
      fc.property(exit, (it) => assert.deepEqual(parseExitRecord(formatExitRecord(it)), { ...it })),
    );
  });

  test("parseExitRecord() takes an unbelievable record for none", () => {
    const bad = [
      "",
      "{",
      "[]",
      '{"Timestamp":"2023-11-14T22:13:20Z","Pid":0,"Status":1}',
      '{"Timestamp":"2023-11-14T22:13:20Z","Pid":1,"Status":-1}',
      '{"Timestamp":"0001-01-01T00:00:00Z","Pid":1,"Status":1}',
      '{"Pid":1,"Status":1}',
    ];
    for (const text of bad) assert.equal(parseExitRecord(text), undefined, text);
  });

  test("parseExitRecord() understands an offset", () => {
    const text = '{"Timestamp":"2023-11-14T23:13:20.5+01:00","Pid":1,"Status":0}';
    assert.equal(parseExitRecord(text)?.at, 1_700_000_000_500_000_000n);
  });

  test("writeExitRecord() leaves one file that only root reads", async () => {
    const bundle = await mkdtemp(join(tmpdir(), "exit-record-"));
    assert.equal(await readExitRecord(bundle), undefined);
    const exit = { pid: 9, status: 0, at: 1_700_000_000_000_000_001n };
    await writeExitRecord(bundle, { ...exit, status: 4 });
    await writeExitRecord(bundle, exit);
    assert.deepEqual(await readdir(bundle), ["exit.json"]);
    assert.equal((await stat(join(bundle, "exit.json"))).mode & 0o777, 0o600);
    assert.deepEqual(await readExitRecord(bundle), exit);
    assert.match(await readFile(join(bundle, "exit.json"), "utf8"), /000000001Z/);
  });
});
