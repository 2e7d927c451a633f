import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { opaque, tar, whiteout } from "#test/support/tar.ts";

/** What GNU tar reads from an archive. */
function list(archive: Buffer): string[] {
  const result = spawnSync("tar", ["-tv", "--numeric-owner", "--full-time", "-f", "-"], {
    input: archive,
    encoding: "utf8",
    env: { PATH: process.env["PATH"], TZ: "UTC", LC_ALL: "C" },
  });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout.trim().split("\n");
}

void test("tar() writes what GNU tar reads", () => {
  const long = `${"d".repeat(90)}/${"f".repeat(90)}`;
  const archive = tar([
    { path: "etc", type: "directory", mode: 0o700, uid: 1000, gid: 100 },
    { path: "etc/motd", content: "hello\n", mtime: 86400 },
    { path: long, content: "" },
    { path: "link", type: "symlink", target: "etc/motd" },
    { path: "hard", type: "hardlink", target: "etc/motd" },
    { path: "null", type: "character", major: 1, minor: 3, mode: 0o666 },
  ]);
  assert.deepEqual(
    list(archive).map((line) => line.replaceAll(/ +/g, " ")),
    [
      "drwx------ 1000/100 0 1970-01-01 00:00:00 etc/",
      "-rw-r--r-- 0/0 6 1970-01-02 00:00:00 etc/motd",
      `-rw-r--r-- 0/0 0 1970-01-01 00:00:00 ${long}`,
      "lrw-r--r-- 0/0 0 1970-01-01 00:00:00 link -> etc/motd",
      "hrw-r--r-- 0/0 0 1970-01-01 00:00:00 hard link to etc/motd",
      "crw-rw-rw- 0/0 1,3 1970-01-01 00:00:00 null",
    ],
  );
});

void test("whiteout() and opaque() name what overlay layers hide", () => {
  assert.equal(whiteout("etc/motd").path, "etc/.wh.motd");
  assert.equal(whiteout("motd").path, ".wh.motd");
  assert.equal(opaque("etc").path, "etc/.wh..wh..opq");
});
