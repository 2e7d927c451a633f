import assert from "node:assert/strict";
import { openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { linux } from "#pkg/sys/linux.ts";
import { descendantsOf } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";

roomTest("a user namespace is held by its descriptor alone", async () => {
  const before = readdirSync("/proc/self/fd").length;
  const signals: string[] = [];
  const onSignal = (): void => void signals.push("SIGCHLD");
  process.on("SIGCHLD", onSignal);
  const [a, b] = [1, 2].map(() => linux.openUserNamespace("0 10000 65536\n", "0 20000 10\n"));
  assert.ok(a !== undefined && b !== undefined);
  const name = (fd: number): string => readlinkSync(`/proc/self/fd/${fd}`);
  assert.match(name(a), /^user:\[\d+\]$/);
  assert.notEqual(name(a), name(b));
  assert.notEqual(name(a), readlinkSync("/proc/self/ns/user"));
  assert.ok(linux.isCloseOnExec(a));
  for (const fd of [a, b]) linux.close(fd);
  assert.equal(readdirSync("/proc/self/fd").length, before);
  assert.deepEqual(await descendantsOf(process.pid), []);
  process.off("SIGCHLD", onSignal);
  assert.deepEqual(signals, []);
});

roomTest(
  "mappings that the kernel refuses are told by its error, and no child is left",
  async () => {
    for (const [uidMap, gidMap, file] of [
      ["0 0 0\n", "0 0 1\n", "uid_map"],
      ["0 0 1\n", "0 1 5\n0 9 5\n", "gid_map"],
    ] as const) {
      assert.throws(() => linux.openUserNamespace(uidMap, gidMap), {
        errno: "EINVAL",
        message: new RegExp(`^open_user_namespace /proc/\\d+/${file}: invalid argument$`),
      });
    }
    assert.deepEqual(await descendantsOf(process.pid), []);
    assert.match(readFileSync("/proc/self/uid_map", "utf8"), /4294967295/);
  },
);

roomTest("the owner of a namespace is found, and what is no namespace has none", async () => {
  const network = openSync("/proc/self/ns/net", "r");
  const owner = linux.openOwningUserNamespace(network);
  assert.equal(readlinkSync(`/proc/self/fd/${owner}`), readlinkSync("/proc/self/ns/user"));
  assert.ok(linux.isCloseOnExec(owner));
  const file = openSync("/proc/self/status", "r");
  assert.throws(() => linux.openOwningUserNamespace(file), { errno: "ENOTTY" });
  for (const fd of [network, owner, file]) linux.close(fd);
});
