import assert from "node:assert/strict";
import { test } from "node:test";
import { idMapLines, identityMapping, parseIdMappings, toHostId } from "#core/mount/id-mapping.ts";
import { codeOf } from "#pkg/errors.ts";

test("parseIdMappings() takes ranges joined by commas", () => {
  const mappings = parseIdMappings("0:100000:1000,1000:7:1");
  assert.deepEqual(mappings, [
    { containerId: 0, hostId: 100_000, size: 1000 },
    { containerId: 1000, hostId: 7, size: 1 },
  ]);
  assert.equal(idMapLines(mappings), "0 100000 1000\n1000 7 1\n");
  assert.deepEqual(
    [0, 999, 1000, 1001].map((id) => toHostId(mappings, id)),
    [100_000, 100_999, 7, undefined],
  );
  assert.equal(idMapLines(identityMapping), "0 0 4294967295\n");
  assert.deepEqual(parseIdMappings("0:0:4294967295"), identityMapping);
});

test("parseIdMappings() refuses what is no range of ids", () => {
  const many = Array.from({ length: 341 }, (_, i) => `${i}:${i}:1`).join(",");
  for (const text of [
    "",
    "0",
    "0:1",
    "0:1:2:3",
    "0:1:0",
    "-1:0:1",
    "0:1:2,",
    " 0:1:2",
    "0:1:0x2",
    "1e1:0:1",
    "0:4294967295:1",
    "1:0:4294967295",
    "99999999999:0:1",
    many,
  ]) {
    assert.throws(
      () => parseIdMappings(text),
      (error) => codeOf(error) === "invalid-argument",
      text,
    );
  }
});
