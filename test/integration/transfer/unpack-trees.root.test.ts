import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import zlib from "node:zlib";
import fc from "fast-check";
import { Limit } from "#pkg/limit.ts";
import type { Fetcher } from "#core/remotes/remotes.ts";
import { fetchContent } from "#core/transfer/fetch-content.ts";
import { chainIds } from "#core/unpack/chain-id.ts";
import type { FetchBlob, Limiter } from "#core/unpack/unpack.ts";
import { unpackImage } from "#core/unpack/unpack-image.ts";
import { digestOf } from "#pkg/digest.ts";
import { notImplemented } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { type Bench, ctx, openBench } from "#test/integration/diff/bench.ts";
import {
  directory,
  file,
  type LayerEntry,
  layerOf,
  link,
  needsRoot,
  symlink,
} from "#test/integration/diff/layer.ts";

const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";

interface Layer {
  readonly descriptor: ImageDescriptor;
  readonly plain: Buffer;
  readonly blob: Buffer;
}

function layerFrom(entries: readonly LayerEntry[], compression: "gzip" | "zstd" | "none"): Layer {
  const plain = layerOf(...entries);
  const blob =
    compression === "gzip"
      ? zlib.gzipSync(plain, { level: 1 })
      : compression === "zstd"
        ? zlib.zstdCompressSync(plain)
        : plain;
  const descriptor = { mediaType, digest: digestOf(blob), sizeBytes: blob.length, annotations: {} };
  return { descriptor, plain, blob };
}

/** Sends blobs in pieces, with turns of the event loop between, so that layers grow beside each other. */
function fetcherOf(layers: readonly Layer[], pieceBytes: number): Fetcher {
  return {
    async *fetch(...[, { digest }, { offset = 0 } = {}]: Parameters<Fetcher["fetch"]>) {
      const blob = layers.find(({ descriptor }) => descriptor.digest === digest)?.blob;
      assert.ok(blob);
      for (let at = offset; at < blob.length; at += pieceBytes) {
        yield blob.subarray(at, at + pieceBytes);
        await turn();
      }
    },
    fetchByDigest: async () => Promise.reject(notImplemented("fetchByDigest")),
    referrers: async () => Promise.reject(notImplemented("referrers")),
  };
}

interface Way {
  readonly bench: Bench;
  readonly kind: "overlayfs" | "native";
  readonly limiter: Limiter | undefined;
  readonly isStreamed: boolean;
}

/** Pulls the layers one way, and looks at the tree they make. */
async function treeOf(
  { bench, kind, limiter, isStreamed }: Way,
  layers: readonly Layer[],
  pieceBytes: number,
): Promise<Awaited<ReturnType<Bench["facts"]>>> {
  const { content, snapshotter, differ } = bench;
  const fetcher = fetcherOf(layers, pieceBytes);
  const locks = new KeyedMutex();
  const fetch: FetchBlob = async (at, descriptor, onArriving) => {
    using _blob = await locks.acquire(descriptor.digest, at.signal);
    const hooks = { onBytes: () => {}, onArriving: isStreamed ? onArriving : undefined };
    await fetchContent(at, content, fetcher, descriptor, hooks);
  };
  const diffIds = layers.map(({ plain }) => digestOf(plain));
  const document = Buffer.from(JSON.stringify({ diffIds, seed: Math.random() }));
  await unpackImage(ctx, {
    content,
    target: {
      matches: () => true,
      snapshotterName: kind,
      snapshotter,
      capabilities: new Set(limiter ? ["rebase"] : []),
      wantsImageInfo: false,
      applier: differ,
      configType: "",
      layerTypes: [],
    },
    config: await bench.add(document, "application/vnd.oci.image.config.v1+json"),
    layers: layers.map(({ descriptor }) => descriptor),
    diffIds,
    locks,
    limiter,
    fetch,
    progress: undefined,
  });
  const key = `view-${Math.random()}`;
  const mounts = await snapshotter.view(ctx, key, chainIds(diffIds).at(-1) ?? "");
  const facts = await bench.facts(mounts);
  await snapshotter.remove(ctx, key);
  return facts;
}

const name = fc
  .array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join("/"));
const owned = fc.record({
  uid: fc.constantFrom(0, 7, 4_000_000),
  gid: fc.constantFrom(0, 9),
  xattrs: fc.constantFrom(new Map(), new Map([["user.note", Buffer.from("x")]])),
});
const content = fc.constantFrom("", "1", "22".repeat(40_000));
const entry: fc.Arbitrary<LayerEntry> = fc.oneof(
  fc.tuple(name, content, owned).map(([n, text, more]) => file(n, text, more)),
  fc
    .tuple(name, fc.constantFrom(0o700, 0o2755, 0o1777), owned)
    .map(([n, mode, more]) => directory(n, { mode, ...more })),
  name.map((n) => symlink(n, "t")),
  name.map((n) => file(n.replace(/[^/]+$/, ".wh.$&"))),
  name.map((n) => file(n.replace(/[^/]+$/, ".wh..wh..opq"))),
);

/** Without paths through what another layer makes a file: overlayfs and a merged tree differ there. */
const layersArbitrary = fc
  .array(fc.tuple(fc.array(entry, { maxLength: 8 }), fc.constantFrom("gzip", "zstd", "none")), {
    minLength: 1,
    maxLength: 5,
  })
  .map((layers) => {
    const plain = layers
      .flatMap(([entries]) => entries)
      .filter((e) => e.type !== "directory" && !e.name.includes(".wh."));
    const files = new Set(plain.map((e) => e.name));
    return layers.map(([entries, compression]) => {
      const kept = entries.filter((e) => !prefixesOf(e.name).some((prefix) => files.has(prefix)));
      return { kept, compression };
    });
  });

function prefixesOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

test("layers unpacked beside each other while they come make the tree of one after the other", {
  skip: needsRoot,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const way = async (
    kind: Way["kind"],
    limiter: Limiter | undefined,
    isStreamed: boolean,
  ): Promise<Way> => ({ bench: stack.use(await openBench(kind)), kind, limiter, isStreamed });
  // A directory that two layers describe keeps attributes of the first one in native, as upstream: each has its own.
  const groups = [
    {
      plainly: await way("overlayfs", undefined, false),
      others: [
        await way("overlayfs", undefined, true),
        await way("overlayfs", new Limit(3), true),
        await way("overlayfs", new Limit(3), false),
      ],
    },
    {
      plainly: await way("native", undefined, false),
      others: [await way("native", undefined, true)],
    },
  ];
  const pieces = fc.constantFrom(13, 512, 5_000);
  await fc.assert(
    fc.asyncProperty(layersArbitrary, pieces, async (drawn, pieceBytes) => {
      const layers = drawn.map(({ kept, compression }, i) => {
        // Equal layers would be one blob: the number keeps them apart.
        const first = file(`layer${i}`, String(i));
        return layerFrom([first, ...kept, link(`link${i}`, `layer${i}`)], compression);
      });
      for (const { plainly, others } of groups) {
        const expected = await treeOf(plainly, layers, pieceBytes);
        for (const other of others) {
          assert.deepEqual(await treeOf(other, layers, pieceBytes), expected);
        }
      }
    }),
    { numRuns: 8 },
  );
});
