import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { LowerLayers } from "#pkg/archive/lower-layers.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { needsRoot, scratch } from "./layer.ts";

test("an opaque directory hides what is below it, also below a directory in it", {
  skip: needsRoot,
}, () => {
  using room = scratch();
  const [low, middle, made] = ["low", "middle", "made"].map((name) => path.join(room.path, name));
  assert.ok(low !== undefined && middle !== undefined && made !== undefined);
  fs.mkdirSync(path.join(low, "a/b/c"), { recursive: true });
  fs.chmodSync(path.join(low, "a/b/c"), 0o777);
  fs.chownSync(path.join(low, "a/b/c"), 1000, 1000);
  fs.mkdirSync(path.join(middle, "a/b"), { recursive: true });
  linux.lsetxattr(path.join(middle, "a"), "trusted.overlay.opaque", Buffer.from("y"));
  fs.mkdirSync(made, { mode: 0o700 });
  const fd = linux.openat(AT.FDCWD, made, O.RDONLY | O.DIRECTORY);
  try {
    using layers = new LowerLayers(linux, [middle, low]);
    assert.equal(layers.lacks("a/b/c"), true);
    assert.equal(layers.copyAttributes({ fd, path: "a/b/c" }), undefined);
    assert.deepEqual([fs.statSync(made).uid, fs.statSync(made).mode & 0o777], [0, 0o700]);
    assert.equal(layers.lacks("a/b"), false);
    using without = new LowerLayers(linux, [low]);
    assert.equal(without.lacks("a/b/c"), false);
    assert.notEqual(without.copyAttributes({ fd, path: "a/b/c" }), undefined);
    assert.deepEqual([fs.statSync(made).uid, fs.statSync(made).mode & 0o777], [1000, 0o777]);
  } finally {
    linux.close(fd);
  }
});
