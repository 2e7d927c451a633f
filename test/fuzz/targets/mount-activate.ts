import assert from "node:assert/strict";
import { mkdir, readdir, realpath, rmdir } from "node:fs/promises";
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { MountHandler } from "#core/mount/manager.ts";
import { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import { format } from "#core/mount/manager/format.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { mkdir as makeDirectory } from "#core/mount/manager/mkdir.ts";
import { mkfs } from "#core/mount/manager/mkfs.ts";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { Context } from "#pkg/context.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Path, Syscalls } from "#pkg/sys/syscall.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const prefix = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("format", "mkdir") },
  fc.constantFrom("mkfs", "unknown", ""),
);
const base = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("bind", "held", "tmpfs") },
  fc.constantFrom("overlay", "ext4", "fuse.x", "", "constructor"),
);
const type = fc.tuple(fc.array(prefix, { maxLength: 2 }), base).map(([prefixes, last]) => {
  return [...prefixes, last].join("/");
});
const number = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 2 }) },
  fc.integer({ min: -1, max: 6 }),
  fc.maxSafeInteger(),
);
const template = fc
  .tuple(fc.constantFrom("source", "target", "mount", "overlay", "html"), number, number)
  .map(([name, first, last]) =>
    name === "overlay" ? `{{ overlay ${first} ${last} }}` : `{{${name} ${first}}}`,
  );
// DIR is the folder that transforms may work in.
const path = fc.constantFrom("DIR/a", "DIR/a/b", "DIR", "DIR/../../x", "/etc/x", "a", "");
const text = fc.oneof(
  path,
  template,
  fc.tuple(template, path).map((parts) => parts.join("/")),
  fc.string(),
);
const mkdirOption = fc
  .tuple(text, fc.constantFrom("", ":755", ":7777", ":700:0:0", ":0:0"))
  .map(([where, rest]) => `X-containerd.mkdir.path=${where}${rest}`);
const mkfsOption = fc
  .tuple(
    fc.constantFrom("size", "fs", "uuid", "x"),
    fc.constantFrom("1k", "1e9P", "-1", "ext4", "", "é"),
  )
  .map(([key, value]) => `X-containerd.mkfs.${key}=${value}`);
const option = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("ro", "rw", "rbind", "rprivate", "noatime") },
  fc.constantFrom("loop", "remount", "uidmap=0:0:1", "X-containerd.other"),
  text.map((value) => `lowerdir=${value}`),
  mkdirOption,
  mkfsOption,
  fc.string(),
);
const mount = fc.record({
  type,
  source: text,
  target: fc.oneof({ weight: 4, arbitrary: fc.constant("") }, fc.constantFrom("/", "..", "sub")),
  options: fc.oneof(fc.constant([]), fc.array(option, { maxLength: 3 })),
});
const inputs = fc.record({
  mounts: fc.array(mount, { minLength: 1, maxLength: 5 }),
  claimedTypes: fc.array(type, { maxLength: 2 }),
  claimedTransforms: fc.array(prefix, { maxLength: 2 }),
  temporary: fc.boolean(),
});

/** A kernel that mounts anything but what is called "refused", on its list alone. */
function kernel(mounted: string[]): Syscalls {
  const at = (target: Path): string => {
    const name = String(target);
    return name.startsWith("/proc/self/fd/") ? readlinkSync(name) : name;
  };
  return {
    ...linux,
    mount(target, { source = "", flags = 0 }) {
      if (String(source).includes("refused")) throw new SyscallError("EINVAL", "mount", target);
      // Changes of what is mounted.
      const isNew = (flags & (32 | (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20))) === 0;
      if (isNew) mounted.push(at(target));
    },
    umount2(target) {
      const index = mounted.lastIndexOf(at(target));
      if (index < 0) throw new SyscallError("EINVAL", "umount2", target);
      mounted.splice(index, 1);
    },
    statfs: () => ({ ...linux.statfs("/"), flags: 0 }),
    openUserNamespace: () => {
      throw new SyscallError("EPERM", "open_user_namespace", "");
    },
    loopGetFree: () => {
      throw new SyscallError("ENOSPC", "loop_ctl_get_free", "");
    },
  };
}

/** Makes a folder of a mount, and refuses to where the source says so. */
function handler(held: Set<string>): MountHandler {
  return {
    async mount(_ctx, given, mountPoint) {
      if (given.source.includes("refused")) throw new SyscallError("EINVAL", "mount", mountPoint);
      await mkdir(mountPoint);
      held.add(mountPoint);
      return { ...given, mountPoint, mountedAt: 0n, data: {} };
    },
    async unmount(_ctx, mountPoint) {
      if (held.delete(mountPoint)) await rmdir(mountPoint);
    },
    isMounted: async (mountPoint) => held.has(mountPoint),
  };
}

/**
 * Any list is activated or refused. What is activated is told of as it was, by the next daemon as
 * well where it is whole, and deactivated; then, and after a refusal, nothing is left of it.
 */
export const target = fuzzTarget({
  name: "MountActivate",
  inputs,
  async check({ mounts, claimedTypes, claimedTransforms, temporary }, dir) {
    const mounted: string[] = [];
    const held = new Set<string>();
    const sys = kernel(mounted);
    const root = await realpath(dir);
    const targets = join(root, "t");
    await mkdir(join(root, "w"));
    const roots = new AllowedRoots(linux, [join(root, "w"), targets]);
    const ctx = Context.background().withNamespace("ns");
    const openManager = (): Promise<LocalMountManager> =>
      LocalMountManager.open({
        ctx,
        targets,
        mounter: new Mounter({
          sys,
          tempDir: root,
          run: async () => ({ failure: "", output: "" }),
        }),
        handlers: new Map([["held", handler(held)]]),
        transforms: new Map([
          ["format", format],
          ["mkdir", makeDirectory(linux, roots)],
          ["mkfs", mkfs(roots, async () => ({ failure: "", output: "" }))],
        ]),
      });
    const manager = await openManager();
    const placed = mounts.map((each) => inFolder(each, join(root, "w")));
    const claims = { types: claimedTypes, transforms: claimedTransforms };
    const nothingIsLeft = async (): Promise<void> => {
      assert.deepEqual([mounted, [...held], await readdir(targets)], [[], [], []]);
    };
    const first = outcome(manager.activate(ctx, "m", placed, { temporary, claims }));
    if ((await first) === "ok") {
      const activation = await manager.info(ctx, "m");
      const count = activation.active.length + activation.system.length;
      assert.equal(count, mounts.length + (temporary ? 1 : 0));
      for (const { mountPoint } of activation.active) {
        assert.ok(mountPoint.startsWith(`${targets}/`), mountPoint);
      }
      const again = outcome(manager.activate(ctx, "m", placed, { temporary, claims }));
      assert.equal(await again, "already-exists");
      await manager.deactivate(ctx, "m");
    }
    await nothingIsLeft();
    assert.deepEqual(await (await openManager()).list(ctx), []);
    for (const name of await readdir(root)) assert.ok(["t", "w"].includes(name), name);
  },
});

function inFolder({ options, source, ...others }: Mount, folder: string): Mount {
  const placed = (value: string): string => value.replaceAll("DIR", folder);
  return { ...others, source: placed(source), options: options.map(placed) };
}
