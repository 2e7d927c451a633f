import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { parseProfilePath, seccompOf } from "./security-profile.ts";

const options = { isPrivileged: false, isSupported: true, capabilities: [] };

suite("security profiles", () => {
  let dir = "";
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "profiles-"));
  });
  after(() => rm(dir, { recursive: true }));

  test("parseProfilePath() knows the older words", () => {
    assert.equal(parseProfilePath(""), undefined);
    for (const word of ["runtime/default", "docker/default"]) {
      assert.equal(parseProfilePath(word)?.type, "runtime-default");
    }
    assert.equal(parseProfilePath("unconfined")?.type, "unconfined");
    assert.deepEqual(parseProfilePath("localhost//etc/p.json"), {
      type: "localhost",
      localhostRef: "/etc/p.json",
    });
    assert.throws(() => parseProfilePath("/etc/p.json"), {
      code: "invalid-argument",
      message: 'invalid profile "/etc/p.json": invalid argument',
    });
  });

  test("seccompOf() is nothing for privileged and unconfined pods", async () => {
    const runtimeDefault = { type: "runtime-default", localhostRef: "" } as const;
    assert.equal(await seccompOf(undefined, options), undefined);
    assert.equal(await seccompOf(runtimeDefault, { ...options, isPrivileged: true }), undefined);
    const unconfined = { type: "unconfined", localhostRef: "" } as const;
    assert.equal(await seccompOf(unconfined, { ...options, isSupported: false }), undefined);
    const profile = await seccompOf(runtimeDefault, options);
    assert.equal(profile?.defaultAction, "SCMP_ACT_ERRNO");
    await assert.rejects(seccompOf(runtimeDefault, { ...options, isSupported: false }), {
      message: "seccomp is not supported: invalid argument",
    });
    await assert.rejects(seccompOf({ ...runtimeDefault, localhostRef: "a" }, options), {
      message: /LocalhostRef must only be set if ProfileType is Localhost/,
    });
  });

  test("seccompOf() reads a file, and nothing that is none", async () => {
    const path = join(dir, "profile.json");
    await writeFile(path, '{"defaultAction":"SCMP_ACT_ALLOW"}');
    const of = (localhostRef: string) => seccompOf({ type: "localhost", localhostRef }, options);
    assert.deepEqual(await of(`localhost/${path}`), { defaultAction: "SCMP_ACT_ALLOW" });
    const fifo = join(dir, "fifo");
    execFileSync("mkfifo", [fifo]);
    await writeFile(join(dir, "bad"), '{"defaultAction":5}');
    await writeFile(join(dir, "large"), Buffer.alloc((1 << 20) + 1, " "));
    for (const [name, words] of [
      ["none", /^cannot load seccomp profile .*ENOENT/],
      ["fifo", /^cannot load seccomp profile .*not a regular file/],
      ["large", /^cannot load seccomp profile .*more than 1048576 bytes/],
      ["bad", /^decoding seccomp profile .* failed: seccomp profile: defaultAction/],
    ] as const) {
      await assert.rejects(of(join(dir, name)), { code: "invalid-argument", message: words });
    }
  });
});
