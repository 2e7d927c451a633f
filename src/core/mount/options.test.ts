import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mount } from "#core/mount/mount.ts";
import {
  isReadOnly,
  overlayLowers,
  planMount,
  readOnlyMounts,
  withoutVolatile,
} from "#core/mount/options.ts";
import { codeOf } from "#pkg/errors.ts";
import { MS } from "#pkg/sys/constants.ts";

const mount = (type: string, ...options: readonly string[]): Mount => {
  return { type, source: type, target: "", options };
};

test("planMount() tells flags, data and mappings apart, the later option winning", () => {
  const plan = planMount([
    "ro",
    "rbind",
    "rw",
    "nosuid",
    "lowerdir=a:b",
    "index=off",
    "rshared",
    "defaults",
  ]);
  assert.equal(plan.flags, MS.BIND | MS.REC | MS.NOSUID | MS.SHARED);
  assert.deepEqual(plan.data, ["lowerdir=a:b", "index=off"]);
  const mapped = planMount(["uidmap=0:1:2", "gidmap=0:3:4", "noatime", "atime"]);
  assert.deepEqual([mapped.uidMap, mapped.gidMap, mapped.loop], ["0:1:2", "0:3:4", undefined]);
  assert.equal(mapped.flags, 0);
  assert.throws(
    () => planMount(["X-containerd.mkdir=/x"]),
    (error) => codeOf(error) === "failed-precondition",
  );
});

test("planMount() takes direct-io for a loop device's where there is one", () => {
  const shown = planMount(["direct-io", "loop", "data=ordered"]);
  assert.deepEqual([shown.loop, shown.data], [{ directIo: true }, ["data=ordered"]]);
  assert.deepEqual(planMount(["loop"]).loop, { directIo: false });
  assert.deepEqual(planMount(["direct-io"]).data, ["direct-io"]);
});

test("isReadOnly() goes by the type where the options do not say", () => {
  const readOnly: readonly Mount[] = [
    mount("erofs", "rw"),
    mount("format/erofs"),
    mount("overlay", "lowerdir=a"),
    mount("format/mkdir/overlay", "lowerdir=a"),
    mount("overlay", "upperdir=a", "ro"),
    mount("overlay", "upperdir=a,ro"),
    mount("bind", "ro", "rbind"),
  ];
  const writable: readonly Mount[] = [
    mount("overlay", "workdir=w", "upperdir=u"),
    mount("overlay", "lowerdir=a,upperdir=b"),
    mount("bind", "rbind"),
    mount("ext4"),
  ];
  for (const m of readOnly) assert.ok(isReadOnly(m), JSON.stringify(m));
  for (const m of writable) assert.ok(!isReadOnly(m), JSON.stringify(m));
});

test("readOnlyMounts() makes an upper directory the topmost lower one", () => {
  const given = [
    mount("overlay", "uidmap=0:1:1", "workdir=w", "upperdir=u", "lowerdir=a:b", "index=off"),
    mount("bind", "rw", "rbind"),
    mount("bind", "ro"),
  ];
  assert.deepEqual(
    readOnlyMounts(given).map((m) => m.options),
    [["lowerdir=u:a:b", "index=off"], ["rbind", "ro"], ["ro"]],
  );
});

test("withoutVolatile() leaves other file systems alone", () => {
  const given = [
    mount("overlay", "volatile", "fsync=volatile", "index=off"),
    mount("x", "volatile"),
  ];
  assert.deepEqual(
    withoutVolatile(given).map((m) => m.options),
    [["index=off"], ["volatile"]],
  );
});

test("overlayLowers() takes an escaped colon for a part of the name", () => {
  assert.deepEqual(overlayLowers(["lowerdir=/a\\:b:/c\\,d:/e\\\\f"]), ["/a:b", "/c,d", "/e\\f"]);
  assert.deepEqual(overlayLowers(["upperdir=/u"]), []);
});
