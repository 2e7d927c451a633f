import assert from "node:assert/strict";
import { test } from "node:test";
import { mountOverlay } from "#core/mount/overlay.ts";
import { MOUNT_ATTR, MS } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { FakeSyscalls } from "#pkg/sys/fake.ts";

const context = '"system_u:object_r:container_file_t:s0:c1,c2"';

test("the new mount API gets one lower directory at a time, and a context without quotes", () => {
  const fake = new FakeSyscalls();
  const own = ["upperdir=/u", "workdir=/w", "lowerdir=/a\\:b:/c"];
  const data = [...own, `context=${context}`, "volatile"];
  mountOverlay(fake.sys, "/mnt", data, MS.RDONLY | MS.NODEV);
  assert.deepEqual(
    fake.callsOf("fsconfigSetString").map(([, ...pair]) => pair),
    [
      ["source", "overlay"],
      ["lowerdir+", "/a:b"],
      ["lowerdir+", "/c"],
      ["upperdir", "/u"],
      ["workdir", "/w"],
      ["context", context.slice(1, -1)],
    ],
  );
  const flags = fake.callsOf("fsconfigSetFlag").map(([, flag]) => flag);
  assert.deepEqual(flags, ["ro", "volatile"]);
  const attributes = fake.callsOf("fsmount").map(([, value]) => value);
  assert.deepEqual(attributes, [MOUNT_ATTR.RDONLY | MOUNT_ATTR.NODEV]);
});

test("a directory whose name is longer than fsconfig takes is given by its descriptor", () => {
  const fake = new FakeSyscalls();
  mountOverlay(fake.sys, "/mnt", [`lowerdir=/${"x".repeat(300)}:/c`], 0);
  const lowers = fake.callsOf("fsconfigSetString").filter(([, key]) => key === "lowerdir+");
  assert.match(String(lowers[0]?.[2]), /^\/proc\/self\/fd\/\d+$/);
  assert.equal(lowers[1]?.[2], "/c");
  assert.deepEqual([...fake.openFds], []);
});

test("before Linux 6.5 the names are made short, and mount(2) gets the context as it is", () => {
  const fake = new FakeSyscalls().on("fsconfigSetString", (_fd, key) => {
    if (key === "lowerdir+") throw new SyscallError("EINVAL", "fsconfig", "");
  });
  mountOverlay(fake.sys, "/mnt", ["lowerdir=/a:/b", `context=${context}`], 0);
  const [, options] = fake.callsOf("mount")[0] ?? [];
  const short = /^context="system_u:.*",lowerdir=\/proc\/self\/fd\/\d+:\/proc\/self\/fd\/\d+$/;
  assert.match(String(options?.data), short);
  assert.deepEqual([...fake.openFds], []);
});
