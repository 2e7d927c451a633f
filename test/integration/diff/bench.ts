import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import path from "node:path";
import type { ContentStore } from "#core/content/content.ts";
import { openMetadata } from "#core/metadata/open.ts";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf } from "#pkg/digest.ts";
import { BlockingPool } from "#pkg/sys/blocking.ts";
import { linux } from "#pkg/sys/linux.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { WalkingDiffer } from "#plugins/differ/walking/walking-differ.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { factsOf, scratch } from "./layer.ts";

export const ctx: Context = Context.background().withNamespace("testsuite");

export interface Bench extends AsyncDisposable {
  readonly dir: string;
  readonly content: ContentStore;
  readonly snapshotter: Snapshotter;
  readonly differ: WalkingDiffer;
  readonly mounter: Mounter;
  /** Puts a blob into the content store. */
  add(blob: Buffer, mediaType?: string): Promise<Descriptor>;
  /** What one sees at the mounts. */
  facts(mounts: readonly Mount[]): Promise<ReturnType<typeof factsOf>>;
}

/** A content store, a snapshotter and a differ of their own. */
export async function openBench(kind: "overlayfs" | "native"): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(scratch()).path;
  const workers = stack.use(new TreeWorkers());
  const root = path.join(dir, kind);
  const backend = stack.use(
    kind === "native"
      ? await NativeSnapshotter.open(ctx, { root, workers })
      : await OverlaySnapshotter.open(ctx, { root, workers, mountOptions: ["index=off"] }),
  );
  const metadata = stack.use(
    await openMetadata(ctx, {
      path: path.join(dir, "meta.sqlite"),
      content: await LocalContentStore.open(path.join(dir, "content")),
      snapshotters: new Map([[kind, backend]]),
    }),
  );
  const { content } = metadata;
  const snapshotter = metadata.snapshotters.get(kind);
  assert.ok(snapshotter);
  const blocking = stack.use(new BlockingPool({ sys: linux }));
  const mounter = new Mounter({ sys: linux, tempDir: tmpdir(), blocking });
  const differ = new WalkingDiffer({ content, mounter, workers, inUserNamespace: false });
  const owned = stack.move();
  return {
    dir,
    content,
    snapshotter,
    differ,
    mounter,
    async add(blob, mediaType = "application/vnd.oci.image.layer.v1.tar+gzip") {
      const digest = digestOf(blob);
      await using writer = await content.writer(ctx, { ref: digest });
      await writer.write(blob);
      await writer.commit(ctx, { expected: digest });
      return { mediaType, digest, sizeBytes: blob.length, annotations: {} };
    },
    facts: (mounts) => mounter.withTempMount(ctx, mounts, async (at) => factsOf(at)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
