import assert from "node:assert/strict";
import { test } from "node:test";

import { MNT, MS } from "#pkg/sys/constants.ts";
import { FakeSyscalls } from "#pkg/sys/fake.ts";
import { linux } from "#pkg/sys/linux.ts";

test("calls are recorded in order with their arguments", () => {
  const fake = new FakeSyscalls();
  fake.sys.mount("/m", { source: "/s", flags: MS.BIND });
  fake.sys.umount2("/m", MNT.DETACH);
  assert.deepEqual(fake.calls, [
    { name: "mount", args: ["/m", { source: "/s", flags: MS.BIND }] },
    { name: "umount2", args: ["/m", MNT.DETACH] },
  ]);
  assert.deepEqual(fake.callsOf("umount2"), [["/m", MNT.DETACH]]);
});

test("failOnce() refuses as the kernel does, then no more", () => {
  const fake = new FakeSyscalls().failOnce("umount2", "EBUSY");
  assert.throws(() => fake.sys.umount2("/m", 0), {
    errno: "EBUSY",
    message: "umount2 /m: device or resource busy",
  });
  fake.sys.umount2("/m", 0);
  assert.equal(fake.calls.length, 2);
});

test("openFds holds what was opened and not closed", () => {
  const fake = new FakeSyscalls();
  const [a, b] = [fake.sys.fsopen("overlay"), fake.sys.pidfdOpen(1)];
  fake.sys.close(a);
  assert.deepEqual([...fake.openFds], [b]);
});

test("a call with a result must be scripted", () => {
  const fake = new FakeSyscalls();
  assert.throws(() => fake.sys.lgetxattr("/x", "user.a"), /no result scripted for lgetxattr/);
  fake.on("lgetxattr", (_path, name) => Buffer.from(`value of ${name.toString()}`));
  assert.equal(fake.sys.lgetxattr("/x", "user.a")?.toString(), "value of user.a");
});

test("it has every call that the real one has, and no other", () => {
  assert.deepEqual(Object.keys(new FakeSyscalls().sys).sort(), Object.keys(linux).sort());
});
