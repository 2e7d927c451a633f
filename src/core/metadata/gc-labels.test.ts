import assert from "node:assert";
import { test } from "node:test";
import { expiresMs, gcLinks } from "#core/metadata/gc-labels.ts";

const gc = "containerd.io/gc";

test("references, with and without names", () => {
  const { refs } = gcLinks({
    [`${gc}.ref.content`]: "d0",
    [`${gc}.ref.content.config`]: "d1",
    [`${gc}.ref.content/l.3`]: "d2",
    [`${gc}.ref.image.x`]: "img",
    [`${gc}.ref.snapshot.overlayfs`]: "s0",
    [`${gc}.ref.snapshot.overlayfs/a.b`]: "s1",
    [`${gc}.ref.mount/x`]: "m",
    "containerd.io/distribution.source.x": "no",
    other: "no",
  });
  assert.deepStrictEqual(refs, [
    { kind: "content", key: "d0" },
    { kind: "content", key: "d1" },
    { kind: "content", key: "d2" },
    { kind: "image", key: "img" },
    { kind: "snapshot/overlayfs", key: "s0" },
    { kind: "snapshot/overlayfs", key: "s1" },
    { kind: "mount", key: "m" },
  ]);
});

test("names that only look alike refer to nothing that is", () => {
  const { refs } = gcLinks({
    [`${gc}.ref.contents`]: "d",
    [`${gc}.ref.snapshot`]: "s",
    [`${gc}.ref.`]: "x",
  });
  const known = ["content", "image", "container", "snapshot/overlayfs"];
  assert.ok(refs.every(({ kind }) => !known.includes(kind)));
});

test("back references, roots and uses", () => {
  const links = gcLinks({
    [`${gc}.bref.container`]: "c",
    [`${gc}.bref.content.1`]: "d",
    [`${gc}.bref.image/x`]: "i",
    [`${gc}.bref.snapshot.native`]: "s",
    [`${gc}.root`]: "2020-01-01T00:00:00Z",
    [`${gc}.cond.value-usedat`]: "1970-01-01T00:00:01.5Z",
    [`${gc}.cond.value-usedat.2`]: "no time",
  });
  assert.deepStrictEqual(links.backRefs, [
    { kind: "container", key: "c" },
    { kind: "content", key: "d" },
    { kind: "image", key: "i" },
    { kind: "snapshot/native", key: "s" },
  ]);
  assert.deepStrictEqual([links.root, links.usedMs, links.refs], [true, [1500], []]);
  assert.strictEqual(gcLinks({}).root, false);
});

test("conditions: those that can be understood", () => {
  const { conditions } = gcLinks({
    [`${gc}.cond.snapshot.overlayfs/n`]: "usedat<24h,usedat>1.5s,usedat=1h,usedat<=1h,x<1s|k|ey",
    [`${gc}.cond.snapshot.overlayfs/m`]: "usedat<24h without a key",
  });
  const snapshot = { kind: "snapshot/overlayfs", key: "k|ey" };
  assert.deepStrictEqual(conditions, [
    { snapshot, op: "<", ageMs: 86_400_000 },
    { snapshot, op: ">", ageMs: 1500 },
  ]);
});

test("a time of expiry that is none never comes", () => {
  assert.strictEqual(expiresMs({}), undefined);
  assert.strictEqual(expiresMs({ [`${gc}.expire`]: "tomorrow" }), undefined);
  assert.strictEqual(expiresMs({ [`${gc}.expire`]: "1970-01-01T00:00:02Z" }), 2000);
});
