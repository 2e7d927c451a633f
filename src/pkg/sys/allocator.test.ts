import assert from "node:assert/strict";
import { test } from "node:test";
import { returnFreedMemory } from "#pkg/sys/allocator.ts";
import { hasNative } from "#pkg/sys/libc.ts";

test("what was freed goes back, though something above it is in use", {
  skip: !hasNative("malloc_trim") && "this C library keeps nothing",
}, () => {
  const blocks = Array.from({ length: 2000 }, () => Buffer.allocUnsafeSlow(30 << 10).fill(1));
  const above = Buffer.allocUnsafeSlow(100);
  // -- each has an ArrayBuffer of its own
  for (const { buffer } of blocks) (buffer as ArrayBuffer).transfer(0);
  const held = process.memoryUsage.rss();
  returnFreedMemory();
  assert.ok(held - process.memoryUsage.rss() > 40 << 20);
  assert.equal(above.length, 100);
});
