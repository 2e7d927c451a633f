import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { compatCases } from "./cases/all.ts";

void test("every recording belongs to a case, and every case has its name to itself", () => {
  const names = compatCases.map((compatCase) => compatCase.name);
  assert.equal(new Set(names).size, names.length);
  const expected = compatCases.flatMap(({ name, differs }) =>
    differs === undefined ? [`${name}.txt`] : [`${name}.ours.txt`, `${name}.txt`],
  );
  const recorded = readdirSync(join(import.meta.dirname, "golden"));
  assert.deepEqual(recorded.toSorted(), expected.toSorted());
});

void test("docs/compat.md lists every case in which our answer differs", async () => {
  const document = await readFile(join(import.meta.dirname, "../../docs/compat.md"), "utf8");
  for (const { name, differs } of compatCases) {
    if (differs !== undefined)
      assert.ok(document.includes(name), `${name} is not in docs/compat.md`);
  }
});
