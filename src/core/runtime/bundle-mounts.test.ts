import assert from "node:assert/strict";
import { mkdir, mkdtemp, realpath, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bundleUnmount, mountPointsBelow } from "#core/runtime/bundle-mounts.ts";
import { MNT } from "#pkg/sys/constants.ts";
import { type ErrnoName, SyscallError } from "#pkg/sys/errno.ts";
import type { Path } from "#pkg/sys/syscall.ts";

function line(point: string): string {
  return `36 35 98:0 / ${point} rw,noatime - overlay overlay rw`;
}

/** Mounts in the order they were made, and what each umount answers before it works. */
class Mounts {
  points: string[];
  readonly calls: string[] = [];
  readonly refusals = new Map<string, ErrnoName[]>();

  constructor(...points: string[]) {
    this.points = points;
  }

  readonly unmount = async (target: Path, flags: number): Promise<void> => {
    const point = String(target);
    this.calls.push(`${point} ${(flags & MNT.DETACH) === 0 ? "plain" : "detach"}`);
    const errno = this.refusals.get(point)?.shift();
    if (errno && (flags & MNT.DETACH) === 0) throw new SyscallError(errno, "umount2", point);
    this.points.splice(this.points.lastIndexOf(point), 1);
  };

  readonly read = async (): Promise<string> => this.points.map(line).join("\n");
}

test("mountPointsBelow() knows the path itself, what is below it and nothing beside it", () => {
  const table = ["/b", "/b/c1", "/b/c1/rootfs", "/b/c10", "/b/c1/with\\040space"]
    .map(line)
    .join("\n");
  assert.deepEqual(mountPointsBelow(table, "/b/c1"), ["/b/c1", "/b/c1/rootfs", "/b/c1/with space"]);
});

test("the last mounted goes first, stacked ones included", async () => {
  const mounts = new Mounts("/other", "/b/rootfs", "/b/rootfs", "/b/rootfs/proc");
  await bundleUnmount(mounts, mounts.read)("/b");
  assert.deepEqual(mounts.points, ["/other"]);
  assert.deepEqual(mounts.calls, ["/b/rootfs/proc plain", "/b/rootfs plain", "/b/rootfs plain"]);
});

test("a path that leads through a link is looked for where it leads", async () => {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "mounts-")));
  try {
    await mkdir(join(dir, "real/b"), { recursive: true });
    await mkdir(join(dir, "other"));
    await symlink("real", join(dir, "link"));
    await symlink(join(dir, "other"), join(dir, "real/b/rootfs"));
    const mounts = new Mounts(join(dir, "real/b/shm"), join(dir, "other/mount"));
    const unmount = bundleUnmount(mounts, mounts.read);
    // What a bundle has in place of a root must not decide what is unmounted elsewhere.
    await unmount(join(dir, "link/b/rootfs"));
    assert.equal(mounts.calls.length, 0);
    await unmount(join(dir, "link/b"));
    assert.deepEqual(mounts.points, [join(dir, "other/mount")]);
    await unmount(join(dir, "link/gone/rootfs"));
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("what stays busy is detached, and what is gone already is no failure", async () => {
  const mounts = new Mounts("/b/rootfs");
  mounts.refusals.set("/b/rootfs", Array<ErrnoName>(20).fill("EBUSY"));
  await bundleUnmount(mounts, mounts.read)("/b");
  assert.deepEqual(mounts.points, []);
  assert.match(mounts.calls.at(-1) ?? "", /detach/);
});

test("any other refusal is thrown", async () => {
  const mounts = new Mounts("/b/rootfs");
  mounts.refusals.set("/b/rootfs", ["EPERM"]);
  await assert.rejects(
    bundleUnmount(mounts, mounts.read)("/b"),
    /unmount \/b\/rootfs: .*not permitted/,
  );
});
