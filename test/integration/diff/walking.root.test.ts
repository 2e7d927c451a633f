import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import zlib from "node:zlib";
import type { Mount } from "#core/mount/mount.ts";
import { readBlob } from "#core/content/content.ts";
import { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf } from "#pkg/digest.ts";
import { codeOf } from "#pkg/errors.ts";
import { type Bench, ctx, openBench } from "./bench.ts";
import {
  apply,
  directory,
  factsOf,
  file,
  layerOf,
  link,
  needsRoot,
  scratch,
  symlink,
} from "./layer.ts";

const gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
const plain = "application/vnd.oci.image.layer.v1.tar";

describe("the walking differ applies", { skip: needsRoot }, () => {
  const base = layerOf(directory("d", { mode: 0o750 }), file("d/a", "a"), file("gone", "x"));
  const top = layerOf(file(".wh.gone"), file("d/b", "b"));

  for (const kind of ["overlayfs", "native"] as const) {
    test(`a chain of layers to ${kind}, of every media type`, async () => {
      await using bench = await openBench(kind);
      const { snapshotter, differ } = bench;
      const blobs: readonly (readonly [Buffer, string])[] = [
        [zlib.gzipSync(base), "application/vnd.docker.image.rootfs.diff.tar.gzip"],
        [zlib.zstdCompressSync(top), "application/vnd.oci.image.layer.v1.tar+zstd"],
        [layerOf(file("c")), plain],
        // What says it is plain and is not.
        [zlib.gzipSync(layerOf(file("e"))), "application/vnd.docker.image.rootfs.diff.tar"],
      ];
      let parent = "";
      for (const [i, [blob, mediaType]] of blobs.entries()) {
        const mounts = await snapshotter.prepare(ctx, `active-${i}`, parent);
        const applied = await differ.apply(ctx, await bench.add(blob, mediaType), mounts, {
          syncFs: true,
        });
        assert.equal(applied.mediaType, plain);
        if (i === 0) {
          assert.equal(applied.digest, digestOf(base));
          assert.equal(applied.sizeBytes, base.length);
        }
        parent = `committed-${i}`;
        await snapshotter.commit(ctx, parent, `active-${i}`);
      }
      const facts = await bench.facts(await snapshotter.view(ctx, "view", parent));
      assert.deepEqual(Object.keys(facts), [".", "c", "d", "d/a", "d/b", "e"]);
      assert.equal(facts["d"]?.mode, "40750");
      assert.ok((await snapshotter.usage(ctx, parent)).inodes > 0);
    });
  }

  test("layers unpacked side by side as it does layers one on another (rebase)", async () => {
    const layers = [
      layerOf(directory("tmp", { mode: 0o1777 }), directory("d", { mode: 0o700 }), file("d/x")),
      layerOf(file("tmp/a"), file("d/.wh.x"), file("none/.wh.y"), file("caf\xe9/f")),
      layerOf(file("caf\xe9/g"), file("tmp/b/c"), file("d/new")),
      layerOf(file(".wh..wh..opq"), directory("tmp"), file("d/only")),
    ];
    await using bench = await openBench("overlayfs");
    const { snapshotter, differ } = bench;
    const seen: ReturnType<typeof factsOf>[] = [];
    for (const side of ["one-by-one", "parallel"] as const) {
      const descriptors = await Promise.all(
        side === "parallel"
          ? layers.map(async (l) => describeBlob(l))
          : layers.map((l) => bench.add(l, plain)),
      );
      let parent = "";
      const key = (i: number): string => `${side}-active-${i}`;
      if (side === "parallel") {
        await Promise.all(
          descriptors.map(async (layer, i) => {
            const mounts = await snapshotter.prepare(ctx, key(i), "");
            await differ.apply(ctx, layer, i === 0 ? mounts : asOverlay(mounts));
          }),
        );
      }
      for (const [i, layer] of descriptors.entries()) {
        if (side !== "parallel") {
          await differ.apply(ctx, layer, await snapshotter.prepare(ctx, key(i), parent));
        }
        const name = `${side}-${i}`;
        await snapshotter.commit(ctx, name, key(i), { parent });
        parent = name;
        seen.push(await bench.facts(await snapshotter.view(ctx, `${name}-view`, name)));
      }
    }
    assert.deepEqual(seen.slice(layers.length), seen.slice(0, layers.length));
  });

  test("layers that are there, however many stall on their way, which end with their context", async () => {
    await using bench = await openBench("native");
    await using files = new AsyncDisposableStack();
    const { snapshotter, differ } = bench;
    const controller = new AbortController();
    const stalls = await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const mounts = await snapshotter.prepare(ctx, `stalled-${i}`, "");
        const at = path.join(bench.dir, `arriving-${i}`);
        fs.writeFileSync(at, base.subarray(0, 700));
        const growing = files.use(await GrowingFile.open(at, 700));
        const arriving = { file: growing, stored: new Promise<void>(() => {}) };
        return { mounts, arriving };
      }),
    );
    const there = await snapshotter.prepare(ctx, "there", "");
    const layer = await bench.add(top, plain);
    const scoped = ctx.withSignal(controller.signal);
    const described = describeBlob(base);
    const stalled = Promise.allSettled(
      stalls.map(({ mounts, arriving }) => differ.apply(scoped, described, mounts, { arriving })),
    );
    assert.equal((await differ.apply(ctx, layer, there)).digest, digestOf(top));
    controller.abort();
    assert.ok((await stalled).every(({ status }) => status === "rejected"));
  });

  const refusals: readonly (readonly [
    title: string,
    run: (bench: Bench, mounts: readonly Mount[]) => Promise<unknown>,
    code: string,
    message: RegExp,
  ])[] = [
    [
      "a truncated layer",
      async (bench, mounts) =>
        bench.differ.apply(ctx, await bench.add(zlib.gzipSync(base).subarray(0, -30)), mounts),
      "data-loss",
      /gzip stream is truncated: unexpected EOF/,
    ],
    [
      "a blob of another size than its descriptor says",
      async (bench, mounts) => {
        const layer = await bench.add(zlib.gzipSync(base));
        return bench.differ.apply(ctx, { ...layer, sizeBytes: layer.sizeBytes + 1 }, mounts);
      },
      "failed-precondition",
      /content sha256:[0-9a-f]+ has \d+ bytes, its descriptor says \d+/,
    ],
    [
      "a blob that is not there",
      (bench, mounts) => bench.differ.apply(ctx, describeBlob(base), mounts),
      "not-found",
      /failed to get reader from content store: .*: not found/,
    ],
    [
      "a media type that is no layer",
      async (bench, mounts) =>
        bench.differ.apply(ctx, await bench.add(base, "application/x-thing"), mounts),
      "not-implemented",
      /failed to get stream processor for application\/x-thing: no processor for media-type/,
    ],
    [
      "a layer that climbs out by a hard link",
      async (bench, mounts) =>
        bench.differ.apply(
          ctx,
          await bench.add(layerOf(link("passwd", "../../etc/passwd"))),
          mounts,
        ),
      "invalid-argument",
      /unpack "passwd": hard link to "\.\.\/\.\.\/etc\/passwd": no such file/,
    ],
    [
      "no mounts",
      async (bench) => bench.differ.apply(ctx, await bench.add(base), []),
      "invalid-argument",
      /mounts are missing/,
    ],
    [
      "a read-only snapshot",
      async (bench, mounts) => {
        const readOnly = mounts.map((m) => ({ ...m, options: ["ro", "rbind"] }));
        return bench.differ.apply(ctx, await bench.add(base), readOnly);
      },
      "failed-precondition",
      /cannot apply to a read-only snapshot/,
    ],
    [
      "a call that is cancelled",
      async (bench, mounts) => {
        const ended = ctx.withSignal(AbortSignal.abort());
        return bench.differ.apply(ended, await bench.add(base), mounts);
      },
      "canceled",
      /context canceled/,
    ],
  ];
  for (const [title, run, code, message] of refusals) {
    test(`refuses ${title}`, async () => {
      await using bench = await openBench("overlayfs");
      const mounts = await bench.snapshotter.prepare(ctx, "active", "");
      await assert.rejects(run(bench, mounts), (error: Error) => {
        assert.match(error.message, message);
        assert.equal(codeOf(error), code);
        return true;
      });
    });
  }

  test("says so when there is no space", async () => {
    await using bench = await openBench("overlayfs");
    const full = path.join(bench.dir, "full");
    fs.mkdirSync(full);
    const tmpfs = { type: "tmpfs", source: "tmpfs", target: "", options: ["size=1m"] };
    const layer = await bench.add(layerOf(file("big", Buffer.alloc(3 << 20))), plain);
    await assert.rejects(bench.differ.apply(ctx, layer, [tmpfs]), (error: Error) => {
      assert.match(error.message, /unpack "big": .*no space left on device/i);
      return codeOf(error) === "resource-exhausted";
    });
  });
});

describe("the walking differ compares", { skip: needsRoot }, () => {
  const lower = layerOf(
    directory("d", { mode: 0o750 }),
    file("d/kept", "1"),
    file("d/changed", "1"),
    directory("gone"),
    file("gone/x"),
    file("l1", "links"),
    link("l2", "l1"),
    symlink("s", "a"),
  );

  async function changed(
    bench: Bench,
  ): Promise<{ lower: readonly Mount[]; upper: readonly Mount[] }> {
    const { snapshotter, differ, mounter } = bench;
    const mounts = await snapshotter.prepare(ctx, "base-active", "");
    await differ.apply(ctx, await bench.add(lower, plain), mounts);
    await snapshotter.commit(ctx, "base", "base-active");
    const upper = await snapshotter.prepare(ctx, "upper", "base");
    await mounter.withTempMount(ctx, upper, async (root) => {
      fs.writeFileSync(path.join(root, "d/changed"), "22");
      fs.rmSync(path.join(root, "gone"), { recursive: true });
      fs.mkdirSync(path.join(root, "new/deep"), { recursive: true });
      fs.writeFileSync(path.join(root, "new/deep/f"), "f");
      fs.writeFileSync(Buffer.from(`${root}/caf\xe9`, "latin1"), "latin");
      fs.rmSync(path.join(root, "s"));
      fs.symlinkSync("b", path.join(root, "s"));
      fs.writeFileSync(path.join(root, "d/suid"), "");
      fs.chmodSync(path.join(root, "d/suid"), 0o4755);
    });
    return { lower: await snapshotter.view(ctx, "base-view", "base"), upper };
  }

  for (const kind of ["overlayfs", "native"] as const) {
    test(`and what it makes gives the same tree when applied (${kind})`, async () => {
      await using bench = await openBench(kind);
      const { lower: left, upper: right } = await changed(bench);
      const descriptor = await bench.differ.compare(ctx, left, right, { mediaType: plain });
      const layer = Buffer.from(await readBlob(ctx, bench.content, descriptor, 1 << 20));
      using flat = scratch();
      await apply(flat.path, lower);
      await apply(flat.path, layer);
      assert.deepEqual(factsOf(flat.path), await bench.facts(right));
    });
  }

  test("deterministically, with whiteouts of 1970 and parents included", async () => {
    await using bench = await openBench("overlayfs");
    const { lower: left, upper: right } = await changed(bench);
    const [a, b] = [
      await bench.differ.compare(ctx, left, right, { mediaType: plain }),
      await bench.differ.compare(ctx, left, right, { mediaType: plain, ref: "again" }),
    ];
    assert.deepEqual(a, b);
    const epoch = 1_000_000_000_000_000_000n;
    const bounded = await bench.differ.compare(ctx, left, right, {
      mediaType: plain,
      sourceDateEpoch: epoch,
    });
    using flat = scratch();
    await apply(flat.path, Buffer.from(await readBlob(ctx, bench.content, bounded, 1 << 20)));
    assert.equal(fs.statSync(path.join(flat.path, "new/deep/f")).mtimeMs, 1_000_000_000_000);
  });

  for (const [mediaType, inflate] of [
    [gzip, zlib.gunzipSync],
    ["application/vnd.oci.image.layer.v1.tar+zstd", zlib.zstdDecompressSync],
  ] as const) {
    test(`and labels ${mediaType} with its diff id`, async () => {
      await using bench = await openBench("overlayfs");
      const { lower: left, upper: right } = await changed(bench);
      const labels: Record<string, string> = {};
      const differ = bench.differ;
      const descriptor = await differ.compare(ctx, left, right, { mediaType, labels });
      const blob = await readBlob(ctx, bench.content, descriptor, 1 << 20);
      const reference = await differ.compare(ctx, left, right, { mediaType: plain });
      const diffId = createHash("sha256").update(inflate(blob)).digest("hex");
      assert.equal(`sha256:${diffId}`, reference.digest);
      assert.equal(descriptor.mediaType, mediaType);
      const info = await bench.content.info(ctx, descriptor.digest);
      assert.equal(info.labels["containerd.io/uncompressed"], reference.digest);
    });
  }

  test("no later than a time before 1970 is refused", async () => {
    await using bench = await openBench("overlayfs");
    const comparing = bench.differ.compare(ctx, [], [], { sourceDateEpoch: -1n });
    await assert.rejects(comparing, (error: Error) => {
      assert.match(error.message, /source date epoch -1 must be non-negative/);
      return codeOf(error) === "invalid-argument";
    });
  });

  test("an unknown media type is for another differ", async () => {
    await using bench = await openBench("overlayfs");
    await assert.rejects(
      bench.differ.compare(ctx, [], [], { mediaType: "x/y" }),
      (error: Error) => {
        assert.match(error.message, /unsupported diff media type: x\/y: not implemented/);
        return codeOf(error) === "not-implemented";
      },
    );
  });
});

function describeBlob(blob: Buffer): Descriptor {
  return { mediaType: plain, digest: digestOf(blob), sizeBytes: blob.length, annotations: {} };
}

/**
 * What a client does that unpacks layers side by side: overlayfs answers a bind mount for want of a
 * parent.
 */
function asOverlay(mounts: readonly Mount[]): Mount[] {
  return mounts.map(({ source, options }) => ({
    type: "overlay",
    source: "overlay",
    target: "",
    options: [...options.filter((o) => o !== "rbind"), `upperdir=${source}`],
  }));
}
