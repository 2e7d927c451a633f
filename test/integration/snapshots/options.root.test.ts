import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { Introspection } from "#api/services/introspection/v1/introspection_pb.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { WalkingDiffer } from "#plugins/differ/walking/walking-differ.ts";
import { canMapIds, probeOverlay } from "#plugins/snapshotter/overlayfs/kernel.ts";
import {
  OverlaySnapshotter,
  type OverlaySnapshotterOptions,
} from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { directory, file, layerOf } from "#test/integration/diff/layer.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();

interface Bench {
  readonly snapshotter: OverlaySnapshotter;
  readonly mounter: Mounter;
  readonly root: string;
  /** Commits what `change` makes of a snapshot on `parent`. */
  readonly commit: (name: string, parent: string, change: (root: string) => void) => Promise<void>;
  readonly see: <T>(parent: string, look: (root: string) => T) => Promise<T>;
}

async function bench(room: Room, options: Partial<OverlaySnapshotterOptions> = {}): Promise<Bench> {
  const workers = room.resources.use(new TreeWorkers());
  const root = options.root ?? join(room.dir, "overlayfs");
  const all = { mountOptions: ["index=off"], ...options, root, workers };
  const snapshotter = room.resources.use(await OverlaySnapshotter.open(ctx, all));
  const mounter = new Mounter({ sys: linux, tempDir: room.dir });
  return {
    snapshotter,
    mounter,
    root,
    async commit(name, parent, change) {
      const mounts = await snapshotter.prepare(ctx, `${name}-active`, parent);
      await mounter.withTempMount(ctx, mounts, async (at) => change(at));
      await snapshotter.commit(ctx, name, `${name}-active`);
    },
    async see(parent, look) {
      const mounts = await snapshotter.view(ctx, `${parent}-view`, parent);
      const seen = await mounter.withTempMount(ctx, mounts, async (at) => look(at));
      await snapshotter.remove(ctx, `${parent}-view`);
      return seen;
    },
  };
}

roomTest(
  "mounts are upstream's, with the configured options at the end of overlays",
  async (room) => {
    const { snapshotter, commit, root } = await bench(room, { mountOptions: ["index=on", "x=y"] });
    const dir = (id: number, name = "fs"): string => join(root, "snapshots", String(id), name);
    await commit("one", "", (at) => writeFileSync(join(at, "f"), "1"));
    const bind = (source: string, access: string) => {
      return [{ type: "bind", source, target: "", options: [access, "rbind"] }];
    };
    const overlay = (...options: readonly string[]) => {
      return [{ type: "overlay", source: "overlay", target: "", options }];
    };
    assert.deepEqual(await snapshotter.prepare(ctx, "fresh", ""), bind(dir(2), "rw"));
    assert.deepEqual(await snapshotter.view(ctx, "empty", ""), bind(dir(3), "ro"));
    assert.deepEqual(await snapshotter.view(ctx, "look", "one"), bind(dir(1), "ro"));
    const own = [`workdir=${dir(5, "work")}`, `upperdir=${dir(5)}`, `lowerdir=${dir(1)}`];
    const active = await snapshotter.prepare(ctx, "two-active", "one");
    assert.deepEqual(active, overlay(...own, "index=on", "x=y"));
    await snapshotter.commit(ctx, "two", "two-active");
    const both = overlay(`lowerdir=${dir(5)}:${dir(1)}`, "index=on", "x=y");
    assert.deepEqual(await snapshotter.view(ctx, "look-2", "two"), both);
    assert.deepEqual(await snapshotter.mounts(ctx, "look-2"), both);
  },
);

roomTest(
  "mounts are volatile where asked, and what was written can be looked at and committed",
  async (room) => {
    const mountOptions = ["index=off", "volatile"];
    const { snapshotter, mounter, commit, see } = await bench(room, { mountOptions });
    await commit("one", "", (at) => writeFileSync(join(at, "f"), "1"));
    const mounts = await snapshotter.prepare(ctx, "active", "one");
    assert.ok(mounts[0]?.options.includes("volatile"));
    const target = join(room.dir, "mnt");
    mkdirSync(target);
    await mounter.mountAll(ctx, mounts, target);
    assert.match(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(`${target} .*volatile`));
    writeFileSync(join(target, "g"), "2");
    await mounter.unmountAll(ctx, target);
    // The kernel takes what was written without syncs no second time; to look at it is another thing.
    await mounter.withReadOnlyTempMount(ctx, mounts, async (at) => {
      assert.equal(readFileSync(join(at, "g"), "utf8"), "2");
    });
    await snapshotter.commit(ctx, "two", "active");
    assert.equal(await see("two", (at) => readFileSync(join(at, "g"), "utf8")), "2");
  },
);

roomTest("with userxattr layers hide what they should, on tmpfs as well", async (room) => {
  const tmpfs = join(room.dir, "tmpfs");
  mkdirSync(tmpfs);
  linux.mount(tmpfs, { source: "tmpfs", fstype: "tmpfs", flags: 0, data: "size=64m" });
  room.resources.defer(() => linux.umount2(tmpfs, 0));
  for (const root of [join(room.dir, "disk"), join(tmpfs, "overlayfs")]) {
    const mountOptions = ["userxattr", "index=off"];
    const { snapshotter, mounter, see } = await bench(room, { root, mountOptions });
    const content = await LocalContentStore.open(join(room.dir, "content"));
    const workers = room.resources.use(new TreeWorkers());
    const differ = new WalkingDiffer({ content, mounter, workers, inUserNamespace: false });
    const layers = [
      layerOf(directory("d"), file("d/old", "1"), file("gone", "1"), file("kept", "1")),
      layerOf(file("d/.wh..wh..opq"), file("d/new", "2"), file(".wh.gone")),
    ];
    let parent = "";
    for (const [i, layer] of layers.entries()) {
      const digest = digestOf(layer);
      await using writer = await content.writer(ctx, { ref: `${root}-${i}` });
      await writer.write(layer);
      await writer.commit(ctx).catch((error: unknown) => assert.match(String(error), /exists/));
      const mediaType = "application/vnd.oci.image.layer.v1.tar";
      const mounts = await snapshotter.prepare(ctx, `a${i}`, parent);
      const blob = { mediaType, digest, sizeBytes: layer.length, annotations: {} };
      await differ.apply(ctx, blob, mounts);
      parent = `layer-${i}`;
      await snapshotter.commit(ctx, parent, `a${i}`);
    }
    const seen = await see(parent, (at) => [readdirSync(at), readdirSync(join(at, "d"))]);
    assert.deepEqual(seen, [["d", "kept"], ["new"]], root);
  }
});

for (const { what, below } of [
  { what: "longer than a page", below: ["n".repeat(120)] },
  {
    what: "longer than a page, each longer than fsconfig takes",
    below: ["n".repeat(200), "m".repeat(200)],
  },
]) {
  roomTest(
    `128 layers whose names are ${what} mount, and each hides those below it`,
    async (room) => {
      const root = join(room.dir, ...below, "overlayfs");
      mkdirSync(root, { recursive: true });
      const { snapshotter, mounter, commit, see } = await bench(room, { root });
      const layers = Array.from({ length: 128 }, (_, i) => i);
      let parent = "";
      for (const i of layers) {
        await commit(`layer-${i}`, parent, (at) => {
          writeFileSync(join(at, `f${i}`), String(i));
          writeFileSync(join(at, "top"), String(i));
          if (i > 0 && i % 3 === 0) rmSync(join(at, `f${i - 1}`));
        });
        parent = `layer-${i}`;
      }
      const left = layers.filter((i) => (i + 1) % 3 !== 0);
      const files = left.map((i) => [`f${i}`, String(i)] as const);
      const expected: Record<string, string> = { ...Object.fromEntries(files), top: "127" };
      const look = (at: string): unknown => {
        const names = readdirSync(at);
        return Object.fromEntries(
          names.map((name) => [name, readFileSync(join(at, name), "utf8")]),
        );
      };
      assert.deepEqual(await see(parent, look), expected);
      const mounts = await snapshotter.prepare(ctx, "active", parent);
      const lowers = mounts[0]?.options.find((option) => option.startsWith("lowerdir=")) ?? "";
      assert.ok(lowers.length > 4096, `${lowers.length} bytes`);
      assert.deepEqual(lowers.split(":").length, 128);
      await mounter.withTempMount(ctx, mounts, async (at) => {
        assert.deepEqual(look(at), expected);
        writeFileSync(join(at, "top"), "128");
        assert.deepEqual(look(at), { ...expected, top: "128" });
      });
      assert.deepEqual(await see(parent, look), expected);
    },
  );
}

/** The kernel without some of its calls. */
function without(...calls: readonly (keyof Syscalls)[]): Syscalls {
  const missing = calls.map((call) => [
    call,
    () => {
      throw new SyscallError("ENOSYS", call, "");
    },
  ]);
  // -- the same names, as functions that take anything
  return { ...linux, ...(Object.fromEntries(missing) as Partial<Syscalls>) };
}

/** Since Linux 6.15 layers can be of mounts that are attached nowhere. */
const triesWithoutMount = /^(?:6\.(?:1[5-9]|[2-9]\d)|[7-9]|\d\d)/.test(release());

roomTest("whether overlays work is tried without a mount, where the kernel can", async (room) => {
  const root = join(room.dir, "root");
  const detached = triesWithoutMount ? without("mount", "moveMount", "umount2") : linux;
  for (const sys of [detached, without("fsopen")]) {
    await probeOverlay(ctx, sys, root, ["index=off"]);
    assert.ok(await canMapIds(ctx, sys, root, ["index=off"]));
    const wrong = probeOverlay(ctx, sys, root, ["no-such-option=1"]);
    await assert.rejects(wrong, /invalid argument/);
    assert.ok(!(await canMapIds(ctx, sys, root, ["no-such-option=1"])));
    assert.deepEqual(readdirSync(root), []);
  }
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  assert.ok(!mounts.includes(root));
  await assert.rejects(
    probeOverlay(ctx, without("fsopen", "mount"), root, []),
    /not implemented|ENOSYS/,
  );
});

roomTest(
  "removal frees the disk at once, or with the clean-up where it is asynchronous",
  async (room) => {
    for (const asyncRemove of [false, true]) {
      const root = join(room.dir, String(asyncRemove));
      const { snapshotter } = await bench(room, { root, asyncRemove });
      await snapshotter.prepare(ctx, "a", "");
      const dir = join(root, "snapshots", "1");
      assert.ok(existsSync(dir));
      await snapshotter.remove(ctx, "a");
      assert.equal(existsSync(dir), asyncRemove);
      await snapshotter.cleanup(ctx);
      assert.ok(!existsSync(dir));
    }
  },
);

roomTest("snapshots lie where root_path says, and clients are told where", async (room) => {
  const names = ["overlayfs", "native"] as const;
  const rootOf = (name: string): string => join(room.dir, "elsewhere", name);
  const config = names
    .flatMap((name) => [
      `[plugins.'io.containerd.snapshotter.v1.${name}']`,
      `root_path = ${JSON.stringify(rootOf(name))}`,
    ])
    .join("\n");
  const daemon = await startDaemon(room, { kind: "ours", config });
  const inNamespace = ctx.withNamespace(room.namespace);
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const introspection = createClient(Introspection, transport);
  for (const name of names) {
    const { plugins } = await introspection.plugins(ctx, { filters: [`id==${name}`] });
    assert.equal(plugins[0]?.exports["root"], rootOf(name));
    const snapshotter = new GrpcSnapshotter(transport, name);
    const [mount] = await snapshotter.prepare(inNamespace, "a", "");
    assert.ok(mount?.source.startsWith(join(rootOf(name), "snapshots/1")));
    await snapshotter.remove(inNamespace, "a");
  }
});

roomTest(
  "the configuration's switches reach the snapshotter and its capabilities",
  async (room) => {
    const overlayfs = "[plugins.'io.containerd.snapshotter.v1.overlayfs']";
    const switches = ["upperdir_label = true", "sync_remove = true", "slow_chown = true"];
    const config = [overlayfs, ...switches, "mount_options = ['index=on']", ""].join("\n");
    const daemon = await startDaemon(room, { kind: "ours", config });
    const inNamespace = ctx.withNamespace(room.namespace);
    const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
    const introspection = createClient(Introspection, transport);
    const { plugins } = await introspection.plugins(ctx, { filters: ["id==overlayfs"] });
    const capabilities = new Set(plugins[0]?.capabilities);
    assert.ok(capabilities.has("rebase"));
    assert.ok(!capabilities.has("only-remap-ids"));
    const snapshotter = new GrpcSnapshotter(transport, "overlayfs");
    await snapshotter.prepare(inNamespace, "a", "");
    const upper = join(daemon.root, "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs");
    const key = "containerd.io/snapshot/overlay.upperdir";
    assert.equal((await snapshotter.stat(inNamespace, "a")).labels[key], upper);
    const [listed] = await Array.fromAsync(snapshotter.list(inNamespace));
    assert.equal(listed?.labels[key], upper);
    await snapshotter.commit(inNamespace, "one", "a");
    const mounts = await snapshotter.prepare(inNamespace, "b", "one");
    assert.equal(mounts[0]?.options.at(-1), "index=on");
    await snapshotter.remove(inNamespace, "b");
    await snapshotter.remove(inNamespace, "one");
  },
);
