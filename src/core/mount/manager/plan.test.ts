import assert from "node:assert/strict";
import { test } from "node:test";
import type { MountClaims, MountHandler, MountTransform } from "#core/mount/manager.ts";
import { planActivation } from "#core/mount/manager/plan.ts";

const same: MountTransform = async (_ctx, mount) => mount;
const handler: MountHandler = {
  mount: async () => {
    throw new Error("not here");
  },
  unmount: async () => {},
  isMounted: async () => true,
};
const transforms = new Map([
  ["format", same],
  ["mkdir", same],
]);
const handlers = new Map([["loop", handler]]);

function plan(
  types: readonly string[],
  claims: Partial<MountClaims> = {},
  temporary = false,
): { first: number | undefined; applied: readonly number[]; types: readonly string[][] } {
  const mounts = types.map((type) => ({ type, source: "", target: "", options: [] }));
  const given = { types: [], transforms: [], ...claims };
  const made = planActivation(mounts, { claims: given, temporary, transforms, handlers });
  return {
    first: made.firstSystemMount,
    applied: made.mounts.map(({ applyCount }) => applyCount),
    types: made.mounts.map((mount) => mount.transforms.map(({ type }) => type)),
  };
}

test("what the kernel can mount is nobody's business", () => {
  assert.equal(plan([]).first, undefined);
  assert.equal(plan(["bind", "overlay"]).first, undefined);
});

test("a chain of transforms is applied, and what they leave is for the caller", () => {
  assert.deepEqual(plan(["tmpfs", "format/mkdir/overlay", "bind"]), {
    first: 1,
    applied: [0, 2, 0],
    types: [[], ["mkdir/overlay", "overlay"], []],
  });
});

test("a claimed transform counts at the end of its chain alone", () => {
  const chain = ["format/mkdir/overlay"];
  assert.deepEqual(plan(chain, { transforms: ["mkdir"] }).applied, [1]);
  assert.deepEqual(plan(chain, { transforms: ["format"] }).applied, [2]);
  assert.equal(plan(chain, { transforms: ["format", "mkdir"] }).first, undefined);
  assert.equal(plan(chain, { types: ["format/mkdir/overlay"] }).first, undefined);
  assert.equal(plan(chain, { types: ["format/*"] }).first, 0);
});

test("a handled mount is made here, unless it is claimed and nothing needs it", () => {
  assert.equal(plan(["loop", "overlay"]).first, 1);
  assert.equal(plan(["loop", "overlay"], { types: ["loop"] }).first, undefined);
  assert.equal(plan(["loop", "loop"], { types: ["loop"] }).first, undefined);
  assert.equal(plan(["loop", "format/overlay"], { types: ["loop"] }).first, 1);
});

test("a prefix that is no transform is part of the type", () => {
  assert.deepEqual(plan(["unknown/format/bind"]), { first: undefined, applied: [0], types: [[]] });
  assert.deepEqual(plan(["format/unknown/bind"]).types, [["unknown/bind"]]);
});

test("a temporary activation makes all, whatever is claimed", () => {
  const claims = { types: ["loop"], transforms: ["format"] };
  assert.equal(plan(["loop", "format/bind"], claims, true).first, 2);
  assert.equal(plan(["bind"], claims, true).first, 1);
});
