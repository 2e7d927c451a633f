import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { resolveDirectly } from "#pkg/direct-imports.ts";

const project = join(import.meta.dirname, "../..");
const specifiers = ["#pkg/errors.ts", "#api/types/mount_pb.ts", "./errors.ts", "#test/run.ts"];

test("a direct import is the same module that Node finds", async () => {
  const before = specifiers.map((specifier) => import.meta.resolve(specifier));
  const errors: unknown = await import("#pkg/errors.ts");
  using _ = resolveDirectly(project);
  assert.deepEqual(
    specifiers.map((specifier) => import.meta.resolve(specifier)),
    before,
  );
  assert.equal(await import("#pkg/errors.ts"), errors);
  const fresh = await import("#pkg/coalescer.ts");
  assert.equal(typeof fresh, "object");
});

test("what the map does not have is Node's to refuse", async () => {
  using _ = resolveDirectly(project);
  const load = (specifier: string): Promise<unknown> => import(specifier);
  await assert.rejects(load("#none/x.ts"), { code: "ERR_PACKAGE_IMPORT_NOT_DEFINED" });
  await assert.rejects(load("#pkg/not-there.ts"));
});
