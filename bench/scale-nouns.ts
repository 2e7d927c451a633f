import { ProxyContentStore } from "#core/content/proxy.ts";
import type { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import type { Side } from "./side.ts";

/** What a store is filled with: how one is made, and how they are listed. Collections keep all of them. */
export interface Noun {
  readonly name: string;
  readonly verb: string;
  readonly count: number;
  make(side: Side, ctx: Context, index: number): Promise<void>;
  /** How many were found. */
  list(side: Side, ctx: Context, filters: string[]): Promise<number>;
  /** A filter that only the given one passes. */
  filter(index: number): string;
}

const root = { "containerd.io/gc.root": "2026-01-01T00:00:00Z" };
const snapshotter = "overlayfs";
/** A specification as large as `ctr` writes it, though not so large that 2,000 overflow one answer. */
const spec = {
  typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
  value: Buffer.from(JSON.stringify({ ociVersion: "1.0.2", padding: "x".repeat(4000) })),
};

const bytesOf = (index: number): Buffer => Buffer.from(`the bytes of blob ${index}\n`);

const blobs: Noun = {
  name: "blobs",
  verb: "commit",
  count: 10_000,
  async make(side, ctx, index) {
    const store = new ProxyContentStore(side.transport);
    const content = bytesOf(index);
    const expected = digestOf(content);
    await using writer = await store.writer(ctx, { ref: `blob-${index}`, expected });
    await writer.write(content);
    await writer.commit(ctx, { expected, sizeBytes: content.length, labels: root });
  },
  async list(side, ctx, filters) {
    let found = 0;
    for await (const { info } of side.content.list(ctx, { filters })) found += info.length;
    return found;
  },
  filter: (index) => `digest==${digestOf(bytesOf(index))}`,
};

const images: Noun = {
  name: "images",
  verb: "create",
  count: 5_000,
  async make(side, ctx, index) {
    const target = {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest: digestOf(`manifest ${index}`),
      size: 500n,
    };
    await side.images.create(ctx, { image: { name: imageName(index), target } });
  },
  async list(side, ctx, filters) {
    return (await side.images.list(ctx, { filters })).images.length;
  },
  filter: (index) => `name==${imageName(index)}`,
};

function imageName(index: number): string {
  return `registry.example/group/image-${index}:latest`;
}

const snapshots: Noun = {
  name: "snapshots",
  verb: "prepare",
  count: 2_000,
  async make(side, ctx, index) {
    await side.snapshots.prepare(ctx, { snapshotter, key: `key-${index}`, labels: root });
  },
  async list(side, ctx, filters) {
    let found = 0;
    for await (const { info } of side.snapshots.list(ctx, { snapshotter, filters })) {
      found += info.length;
    }
    return found;
  },
  filter: (index) => `name==key-${index}`,
};

const containers: Noun = {
  name: "containers",
  verb: "create",
  count: 2_000,
  async make(side, ctx, index) {
    const container = {
      id: `container-${index}`,
      image: imageName(index),
      runtime: { name: "io.containerd.runc.v2" },
      spec,
      labels: { role: `r${index}` },
    };
    await side.containers.create(ctx, { container });
  },
  async list(side, ctx, filters) {
    return (await side.containers.list(ctx, { filters })).containers.length;
  },
  filter: (index) => `labels.role==r${index}`,
};

export const nouns: readonly Noun[] = [blobs, images, snapshots, containers];
