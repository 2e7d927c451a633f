import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Cgroup } from "#core/cgroups/cgroup.ts";
import { isFrozen } from "#core/cgroups/freezer.ts";

test("a cgroup is frozen when it says so itself, in both versions", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "freezer-"));
  const { path } = directory;
  const both: readonly [Cgroup, string][] = [
    [{ version: 2, path }, "cgroup.freeze"],
    [{ version: 1, paths: new Map([["freezer", path]]) }, "freezer.self_freezing"],
  ];
  for (const [cgroup, file] of both) {
    assert.equal(isFrozen(cgroup), undefined);
    writeFileSync(join(path, file), "1\n");
    assert.equal(isFrozen(cgroup), true);
    writeFileSync(join(path, file), "0\n");
    assert.equal(isFrozen(cgroup), false);
  }
  assert.equal(isFrozen({ version: 1, paths: new Map() }), undefined);
});
