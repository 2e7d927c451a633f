import assert from "node:assert";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { Corpus, decodeInput, encodeInput } from "#test/fuzz/corpus.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { loadTarget, targetNames } from "#test/fuzz/targets/all.ts";
import { tryTarget } from "#test/fuzz/try-target.ts";

/** A property that holds for arrays without a byte above `max`. */
const below = (max: number) =>
  fuzzTarget({
    name: "Below",
    inputs: fc.record({ bytes: fc.uint8Array({ minLength: 1 }), n: fc.bigInt() }),
    check: ({ bytes }) =>
      assert.ok(
        bytes.every((byte) => byte <= max),
        "too big",
      ),
  });

async function bench(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), "fuzz-test-"));
  t.after(() => rm(dir, { recursive: true }));
  const corpus = new Corpus(join(dir, "corpus"), "Below");
  const lines: string[] = [];
  const currentFile = join(dir, "current");
  const options = { corpus, currentFile, seed: 7, print: (line: string) => lines.push(line) };
  return { options, lines, corpus, currentFile };
}

test("a property that holds says with which seed", async (t) => {
  const { options, lines, corpus, currentFile } = await bench(t);
  assert.strictEqual(await tryTarget(below(255), { ...options, runs: 20 }), true);
  assert.deepStrictEqual(lines, ["Below: 0 kept and 20 new inputs, seed 7"]);
  assert.deepStrictEqual(await corpus.load(), []);
  assert.ok(
    (await readFile(currentFile, "utf8")).includes("$base64"),
    "the input under way is written",
  );
});

test("an input that is found is made small, kept, and replayed before any other", async (t) => {
  const { options, lines, corpus } = await bench(t);
  assert.strictEqual(await tryTarget(below(100), { ...options, runs: 200 }), false);
  const kept = await corpus.load();
  assert.deepStrictEqual(
    kept.map(({ input }) => input),
    [{ bytes: new Uint8Array([101]), n: 0n }],
  );
  assert.match(lines.join("\n"), /does not hold, .*seed 7.*\n.*too big[^]*kept as .*\.json/);

  lines.length = 0;
  assert.strictEqual(await tryTarget(below(100), { ...options, runs: 0 }), false);
  assert.match(lines.join("\n"), /does not hold for .*\.json[^]*1 kept and 0 new/);
  assert.strictEqual(await tryTarget(below(255), { ...options, runs: 0 }), true);
});

test("inputs read back as they were written", () => {
  const input = {
    text: "ä\ud800",
    bytes: Buffer.from([0, 255]),
    big: -5n,
    list: [1, null, [true]],
  };
  const bytes = new Uint8Array([0, 255]);
  assert.deepStrictEqual(decodeInput(encodeInput(input)), { ...input, bytes });
});

test("every target is found under its own name", async () => {
  for (const name of targetNames) assert.strictEqual((await loadTarget(name)).name, name);
});
