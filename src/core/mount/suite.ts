import assert from "node:assert/strict";
import { lstat, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { MountManager } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import { codeOf, type ErrorCode } from "#pkg/errors.ts";

export interface ManagerUnderTest {
  readonly ctx: Context;
  readonly manager: MountManager;
  /** A folder below one of the manager's roots, the test's own. */
  readonly dir: string;
}

export function mountOf(type: string, source: string, options: readonly string[] = []): Mount {
  return { type, source, target: "", options };
}

async function rejects(promise: Promise<unknown>, code: ErrorCode, words?: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof Error);
    assert.equal(codeOf(error), code, error.message);
    if (words) assert.match(error.message, words);
    return true;
  });
}

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").some((line) => line.split(" ")[4] === path);
}

/** What every manager of mounts promises, in this process or behind its service. Needs root. */
export function mountManagerSuite(
  name: string,
  open: (t: TestContext) => Promise<ManagerUnderTest>,
  { needs }: { readonly needs?: string | undefined } = {},
): void {
  const run: Run = (what, body) => {
    const skip = needs === undefined ? {} : { skip: needs };
    void test(`${name}: ${what}`, skip, async (t) => body(await open(t)));
  };
  activationSuite(run);
  transformSuite(run);
}

type Run = (what: string, body: (under: ManagerUnderTest) => Promise<void>) => void;

function activationSuite(run: Run): void {
  run("mounts that need nothing are not taken", async ({ ctx, manager }) => {
    await rejects(manager.activate(ctx, "m", []), "not-implemented");
    await rejects(manager.activate(ctx, "m", [mountOf("tmpfs", "tmpfs")]), "not-implemented");
    await rejects(manager.info(ctx, "m"), "not-found");
  });
  run("an activation is made, told of, and undone", async ({ ctx, manager }) => {
    const mounts = [
      mountOf("tmpfs", "one"),
      mountOf("tmpfs", "two", ["size=1m"]),
      mountOf("format/overlay", "overlay", ["lowerdir={{ overlay 1 0 }}"]),
      mountOf("bind", "/after", ["ro"]),
    ];
    const made = await manager.activate(ctx, "m", mounts, { labels: { a: "1" } });
    const [one = "", two = ""] = made.active.map(({ mountPoint }) => mountPoint);
    assert.deepEqual([await isMounted(one), await isMounted(two)], [true, true]);
    assert.deepEqual(made.system, [
      mountOf("overlay", "overlay", [`lowerdir=${two}:${one}`]),
      mountOf("bind", "/after", ["ro"]),
    ]);
    assert.deepEqual([made.name, made.labels], ["m", { a: "1" }]);
    const info = await manager.info(ctx, "m");
    assert.deepEqual([info.system, info.labels], [made.system, made.labels]);
    assert.deepEqual(
      info.active.map(({ type, mountPoint }) => [type, mountPoint]),
      [
        ["tmpfs", one],
        ["tmpfs", two],
      ],
    );
    await rejects(manager.activate(ctx, "m", mounts), "already-exists");
    assert.deepEqual(
      (await manager.list(ctx)).map((activation) => activation.name),
      ["m"],
    );
    assert.deepEqual(await manager.list(ctx.withNamespace("another")), []);
    await rejects(manager.info(ctx.withNamespace("another"), "m"), "not-found");
    await manager.deactivate(ctx, "m");
    assert.deepEqual([await isMounted(one), await isMounted(two)], [false, false]);
    await rejects(manager.info(ctx, "m"), "not-found");
    await rejects(manager.deactivate(ctx, "m"), "not-found");
    assert.deepEqual(await manager.list(ctx), []);
  });
  run("a temporary activation leaves one bind mount", async ({ ctx, manager, dir }) => {
    await writeFile(join(dir, "file"), "seen");
    const mounts = [mountOf("bind", dir, ["rbind", "ro"])];
    const { system, active } = await manager.activate(ctx, "m", mounts, { temporary: true });
    const mountPoint = active[0]?.mountPoint ?? "";
    assert.deepEqual(system, [mountOf("bind", mountPoint, ["rbind"])]);
    assert.equal(await readFile(join(mountPoint, "file"), "utf8"), "seen");
    await manager.deactivate(ctx, "m");
    assert.equal(await readFile(join(dir, "file"), "utf8"), "seen");
  });
  run("one mount that fails undoes those before it", async ({ ctx, manager }) => {
    const bad = [
      [mountOf("tmpfs", "one"), mountOf("nosuchfs", "x"), mountOf("format/bind", "{{ mount 1 }}")],
      [mountOf("tmpfs", "one"), mountOf("format/bind", "{{ mount 1 }}")],
      [mountOf("tmpfs", "one"), mountOf("unknown/bind", "/"), mountOf("format/bind", "x")],
    ];
    const mountedBefore = await readFile("/proc/self/mountinfo", "utf8");
    for (const mounts of bad) {
      await assert.rejects(manager.activate(ctx, "m", mounts));
      await rejects(manager.info(ctx, "m"), "not-found");
    }
    assert.equal(countOf(await readFile("/proc/self/mountinfo", "utf8")), countOf(mountedBefore));
  });
  run("of two at once one wins", async ({ ctx, manager }) => {
    const mounts = [mountOf("tmpfs", "one"), mountOf("format/bind", "{{ mount 0 }}")];
    const both = [1, 2].map(() => manager.activate(ctx, "m", mounts));
    const settled = await Promise.allSettled(both);
    assert.deepEqual(settled.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
    await manager.deactivate(ctx, "m");
  });
}

/** Mounts of file systems that the tests of this file make. */
function countOf(mountInfo: string): number {
  return mountInfo.split("\n").filter((line) => / - tmpfs one /.test(line)).length;
}

function transformSuite(run: Run): void {
  run("mkdir makes directories below the manager's roots", async ({ ctx, manager, dir }) => {
    const upper = join(dir, "upper");
    const open = join(dir, "open");
    const options = [
      `X-containerd.mkdir.path=${upper}`,
      "index=off",
      `X-containerd.mkdir.path=${open}:755`,
    ];
    const { system } = await manager.activate(ctx, "m", [mountOf("mkdir/overlay", "o", options)]);
    assert.deepEqual(system, [mountOf("overlay", "o", ["index=off"])]);
    assert.equal((await lstat(upper)).mode & 0o777, 0o700);
    assert.equal((await lstat(open)).mode & 0o777, 0o755);
    await manager.deactivate(ctx, "m");
    // A second time they are there.
    await manager.activate(ctx, "m", [mountOf("mkdir/overlay", "o", options)]);
    await manager.deactivate(ctx, "m");
  });
  run("mkdir stays below its roots", async ({ ctx, manager, dir }) => {
    await symlink("/tmp", join(dir, "out"));
    const target = `/tmp/mkdir-escape-${process.pid}`;
    const paths = [
      target,
      join(dir, "out", `mkdir-escape-${process.pid}`),
      `${dir}/../../../../../..${target}`,
    ];
    for (const path of paths) {
      const mount = mountOf("mkdir/bind", "/", [`X-containerd.mkdir.path=${path}`]);
      await assert.rejects(manager.activate(ctx, "m", [mount]), path);
      await assert.rejects(lstat(target), { code: "ENOENT" });
    }
    await rm(join(dir, "out"));
  });
  run("mkdir refuses what it does not understand", async ({ ctx, manager, dir }) => {
    for (const option of ["mkdir.mode=1", `mkdir.path=${dir}/x:700:0`, `mkdir.path=${dir}/x:rw`]) {
      const mount = mountOf("mkdir/bind", "/", [`X-containerd.${option}`]);
      await assert.rejects(manager.activate(ctx, "m", [mount]), option);
    }
    await assert.rejects(lstat(join(dir, "x")), { code: "ENOENT" });
  });
  run("mkfs makes a file with a file system, once", async ({ ctx, manager, dir }) => {
    const source = join(dir, "fs.img");
    const uuid = "6a3c1a0e-3b0c-4f1e-9d0e-0123456789ab";
    const options = [
      "X-containerd.mkfs.size=4MiB",
      "X-containerd.mkfs.fs=ext4",
      `X-containerd.mkfs.uuid=${uuid}`,
      "ro",
    ];
    const { system } = await manager.activate(ctx, "m", [mountOf("mkfs/ext4", source, options)]);
    assert.deepEqual(system, [mountOf("ext4", source, ["ro"])]);
    const image = await readFile(source);
    assert.equal(image.length, 4 << 20);
    // The magic of ext4 and the UUID, where its superblock has them.
    assert.equal(image.readUInt16LE(1024 + 0x38), 0xef53);
    const found = image.subarray(1024 + 0x68, 1024 + 0x78).toString("hex");
    assert.equal(found, uuid.replaceAll("-", ""));
    await manager.deactivate(ctx, "m");
    await writeFile(source, "mine");
    await manager.activate(ctx, "m", [mountOf("mkfs/ext4", source, options)]);
    await manager.deactivate(ctx, "m");
    assert.equal(await readFile(source, "utf8"), "mine");
    for (const bad of ["size=much", "fs=ntfs", "other=1"]) {
      const mount = mountOf("mkfs/ext4", join(dir, "bad.img"), [`X-containerd.mkfs.${bad}`]);
      await assert.rejects(manager.activate(ctx, "m", [mount]), bad);
    }
    await assert.rejects(lstat(join(dir, "bad.img")), { code: "ENOENT" });
    await mkdir(join(dir, "none"));
  });
}
