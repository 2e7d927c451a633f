import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { completeMountOptions } from "#plugins/snapshotter/overlayfs/kernel.ts";

const index = existsSync("/sys/module/overlay/parameters/index") ? ["index=off"] : [];

test("completeMountOptions() turns the index off unless it is configured, on or off", async () => {
  assert.deepEqual(await completeMountOptions([], false), index);
  assert.deepEqual(await completeMountOptions(["volatile"], false), ["volatile", ...index]);
  for (const given of ["index=on", "index=off"]) {
    assert.deepEqual(await completeMountOptions([given, "metacopy=on"], false), [
      given,
      "metacopy=on",
    ]);
  }
});

test("completeMountOptions() asks for userxattr in a user namespace, once", async () => {
  assert.deepEqual(await completeMountOptions([], true), ["userxattr", ...index]);
  assert.deepEqual(await completeMountOptions(["userxattr"], true), ["userxattr", ...index]);
});
