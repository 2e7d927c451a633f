import assert from "node:assert";
import { Limit } from "#pkg/limit.ts";
import { LocalTransferrer } from "#core/transfer/local-transferrer.ts";
import type { Context } from "#pkg/context.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import {
  anyName,
  exportObject,
  importObject,
  storeObject,
} from "#test/integration/transfer/local-transfer.ts";

/** Stores below one folder, and the transfers over them that need no registry. */
export interface ImageBench extends AsyncDisposable {
  readonly ctx: Context;
  readonly storage: DaemonStorage;
  importArchive(bytes: Uint8Array): Promise<void>;
  exportArchive(name: string): Promise<Buffer>;
}

export async function openImageBench(dir: string): Promise<ImageBench> {
  const storage = await openStorage(dir, { noSync: true });
  const { content, images, leases } = storage.metadata;
  const ctx = inNamespace("fuzz");
  const transferrer = new LocalTransferrer({
    content,
    images,
    leases,
    unpackTargets: [],
    defaultSnapshotter: "overlayfs",
    locks: new KeyedMutex(),
    unpackLimiter: undefined,
    uploadLimiter: new Limit(3),
    verifiers: new Map(),
    referrers: undefined,
    openResolver: () => {
      throw new Error("no registry here");
    },
  });
  return {
    ctx,
    storage,
    importArchive: (bytes) =>
      transferrer.transfer(ctx, importObject(bytes, 7000), storeObject({ references: [anyName] })),
    async exportArchive(name) {
      const chunks: Uint8Array[] = [];
      const to = exportObject({ allPlatforms: true }, chunks);
      await transferrer.transfer(ctx, storeObject({ name }), to);
      return Buffer.concat(chunks);
    },
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  };
}

/** What every import leaves, whether it came to an end or was refused: no lease, no ingest, no name of nothing. */
export async function assertTidy({ ctx, storage }: ImageBench): Promise<void> {
  const { metadata, content } = storage;
  assert.deepStrictEqual(await metadata.leases.list(ctx), []);
  assert.deepStrictEqual(await metadata.content.listStatuses(ctx), []);
  assert.deepStrictEqual(await content.listStatuses(ctx), []);
  await metadata.collector.scheduleAndWait(ctx);
  for (const image of await metadata.images.list(ctx)) {
    await metadata.content.info(ctx, image.target.digest);
  }
}
