import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { chmodUnfollowed } from "#pkg/sys/chmod-unfollowed.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";

test("chmodUnfollowed() changes files of every type, and no symlink nor what it leads to", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "chmod-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const dirFd = linux.openat(AT.FDCWD, dir, O.PATH | O.DIRECTORY);
  t.after(() => linux.close(dirFd));
  writeFileSync(join(dir, "file"), "");
  mkdirSync(join(dir, "directory"));
  linux.mkfifo(join(dir, "fifo"), 0o600);
  symlinkSync("file", join(dir, "link"));
  const modeOf = (name: string): number => lstatSync(join(dir, name)).mode & 0o7777;
  for (const name of ["file", "directory", "fifo"]) {
    chmodUnfollowed(linux, dirFd, name, 0o6751);
    assert.equal(modeOf(name), 0o6751, name);
  }
  const descriptors = readdirSync("/proc/self/fd").length;
  assert.throws(() => chmodUnfollowed(linux, dirFd, Buffer.from("link"), 0o600), {
    errno: "ENOTSUP",
    syscall: "fchmodat",
    message: "fchmodat link: operation not supported",
  });
  assert.equal(readdirSync("/proc/self/fd").length, descriptors);
  assert.equal(modeOf("file"), 0o6751);
  assert.throws(() => chmodUnfollowed(linux, dirFd, "none", 0o600), { errno: "ENOENT" });
});
