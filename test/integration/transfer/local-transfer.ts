import { createHash } from "node:crypto";
import type { TestContext } from "node:test";
import type { Applier } from "#core/diff/diff.ts";
import type { ContentStore } from "#core/content/content.ts";
import type { LocalParts } from "#core/transfer/local.ts";
import { Limit } from "#pkg/limit.ts";
import { LocalTransferrer } from "#core/transfer/local-transferrer.ts";
import type { ExportObject, ImportObject, Progress, StoreObject } from "#core/transfer/transfer.ts";
import { plainBytes } from "#core/images/plain-bytes.ts";
import type { UnpackTarget } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import {
  type DaemonStorage,
  inNamespace,
  testStorage,
} from "#test/integration/metadata/daemon-storage.ts";

/** A transferrer over real stores, with a snapshotter of records only and an applier that writes no files. */
export interface Bench {
  readonly ctx: Context;
  readonly storage: DaemonStorage;
  readonly transferrer: LocalTransferrer;
  readonly applier: CountingApplier;
  readonly steps: Progress[];
  readonly importArchive: (bytes: Uint8Array, store?: Partial<StoreObject>) => Promise<void>;
  readonly exportArchive: (
    store: Partial<StoreObject>,
    target?: Partial<ExportObject>,
  ) => Promise<Buffer>;
  readonly names: () => Promise<string[]>;
}

export const anyOs = { os: "linux", architecture: "amd64" };

export function storeObject(given: Partial<StoreObject> = {}): StoreObject {
  return {
    kind: "store",
    name: "",
    labels: {},
    platforms: [],
    allMetadata: false,
    manifestLimit: 0,
    references: [],
    unpacks: [],
    ...given,
  };
}

/** What `ctr images import` sends when it is given no base name. */
export const anyName = {
  name: "import",
  isPrefix: true,
  allowOverwrite: true,
  addDigest: false,
  skipNamedDigest: false,
};

export function importObject(bytes: Uint8Array, chunkBytes = 60_000): ImportObject {
  return {
    kind: "import",
    mediaType: "",
    forceCompress: false,
    async *read() {
      for (let at = 0; at < bytes.length; at += chunkBytes) {
        yield Buffer.from(bytes.subarray(at, at + chunkBytes));
      }
    },
  };
}

export function exportObject(given: Partial<ExportObject>, chunks: Uint8Array[]): ExportObject {
  return {
    kind: "export",
    mediaType: "",
    platforms: [],
    allPlatforms: false,
    skipCompatibilityManifest: false,
    skipNonDistributable: false,
    write: async (_ctx, bytes) => void chunks.push(Buffer.from(bytes)),
    finish: async () => {},
    close: async () => {},
    ...given,
  };
}

/** Hashes a layer as a real one would, and counts. */
export class CountingApplier implements Applier {
  readonly applied: string[] = [];
  /** Each layer waits here until as many are under way as should be at once: fewer would wait for ever. */
  together = 1;
  runningMost = 0;
  #running = 0;
  #meeting: PromiseWithResolvers<void> = Promise.withResolvers();
  #arrived = 0;
  readonly #content: ContentStore;

  constructor(content: ContentStore) {
    this.#content = content;
  }

  async apply(
    ...[ctx, layer, , options]: Parameters<Applier["apply"]>
  ): ReturnType<Applier["apply"]> {
    await options?.arriving?.stored;
    this.runningMost = Math.max(this.runningMost, ++this.#running);
    await this.#meet();
    await using reader = await this.#content.open(ctx, layer.digest);
    const hash = createHash("sha256");
    let sizeBytes = 0;
    const bytes = reader.stream() as AsyncIterable<Buffer>; // -- the local store reads buffers
    for await (const chunk of plainBytes(bytes)) {
      hash.update(chunk);
      sizeBytes += chunk.length;
    }
    this.#running--;
    this.applied.push(layer.digest);
    const digest = parseDigest(`sha256:${hash.digest("hex")}`);
    const mediaType = "application/vnd.oci.image.layer.v1.tar";
    return { mediaType, digest, sizeBytes, annotations: {} };
  }

  async #meet(): Promise<void> {
    const meeting = this.#meeting;
    if (++this.#arrived >= this.together) {
      this.#arrived = 0;
      this.#meeting = Promise.withResolvers();
      meeting.resolve();
    }
    await meeting.promise;
  }
}

export async function transferBench(
  t: TestContext,
  given: Partial<LocalParts> & {
    readonly capabilities?: readonly string[];
    readonly wantsImageInfo?: boolean;
  } = {},
): Promise<Bench> {
  const storage = await testStorage(t);
  const { metadata, overlay } = storage;
  const ctx = inNamespace("test");
  const applier = new CountingApplier(metadata.content);
  const target: UnpackTarget = {
    matches: ({ os }) => os === "linux",
    snapshotterName: "overlayfs",
    snapshotter: overlay,
    capabilities: new Set(given.capabilities),
    wantsImageInfo: given.wantsImageInfo === true,
    applier,
    configType: "",
    layerTypes: [],
  };
  const transferrer = new LocalTransferrer({
    content: metadata.content,
    images: metadata.images,
    leases: metadata.leases,
    unpackTargets: [target],
    defaultSnapshotter: "overlayfs",
    locks: new KeyedMutex(),
    unpackLimiter: undefined,
    uploadLimiter: new Limit(3),
    verifiers: new Map(),
    referrers: undefined,
    openResolver: () => {
      throw new Error("no registry here");
    },
    ...given,
  });
  const steps: Progress[] = [];
  const options = { progress: (step: Progress) => void steps.push(step) };
  return {
    ctx,
    storage,
    transferrer,
    applier,
    steps,
    importArchive: (bytes, store = { references: [anyName] }) =>
      transferrer.transfer(ctx, importObject(bytes), storeObject(store), options),
    async exportArchive(store, to = {}) {
      const chunks: Uint8Array[] = [];
      await transferrer.transfer(ctx, storeObject(store), exportObject(to, chunks), options);
      return Buffer.concat(chunks);
    },
    names: async () => (await metadata.images.list(ctx)).map(({ name }) => name).sort(),
  };
}
