import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { contentSuite } from "#core/content/suite.ts";
import type { Metadata } from "#core/metadata/metadata.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { snapshotterSuite } from "#core/snapshots/suite.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { silentLogger } from "#pkg/log.ts";
import { Graph } from "#pkg/plugin/graph.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { linux } from "#pkg/sys/linux.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { localContent } from "#plugins/content/local/plugin.ts";
import { exchange } from "#plugins/event/plugin.ts";
import { boltMetadata } from "#plugins/metadata/plugin.ts";
import { proxyPlugins } from "#plugins/proxy/plugin.ts";
import { contentService } from "#plugins/services/content/service.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { MetadataPlugin } from "#plugins/types.ts";

/** The daemon's storage with one part of it behind a socket, as an entry of the configuration. */
async function storageWith(
  stack: AsyncDisposableStack,
  dir: string,
  { type, service, others }: { type: string; service: Service; others: readonly AnyPlugin[] },
): Promise<Metadata> {
  const address = join(dir, "s.sock");
  const server = stack.use(new GrpcServer({ services: [service] }));
  await server.listen(address, { mode: 0o600 });
  const entry = { type, address, platform: "", exports: {}, capabilities: [] };
  const graph = stack.use(
    await Graph.start(Context.background(), {
      plugins: [...others, exchange, ...proxyPlugins({ mine: entry }, silentLogger), boltMetadata],
      root: join(dir, "daemon"),
      state: join(dir, "state"),
      grpcAddress: "",
      ttrpcAddress: "",
    }),
  );
  const record = graph.records.find((r) => r.type === MetadataPlugin.name);
  if (record?.state !== "started") throw new Error("no metadata", { cause: record?.error });
  return record.instance as Metadata; // -- what the type of the plugin promises
}

for (const name of ["overlayfs", "native"] as const) {
  const Backend = name === "native" ? NativeSnapshotter : OverlaySnapshotter;
  snapshotterSuite(
    `${name}-proxy-plugin`,
    async (ctx, dir) => {
      await using stack = new AsyncDisposableStack();
      const workers = stack.use(new TreeWorkers());
      const backend = stack.use(await Backend.open(ctx, { root: join(dir, name), workers }));
      const metadata = await storageWith(stack, dir, {
        type: "snapshot",
        service: snapshotsServiceOf(new Map([["mine", backend]])),
        others: [localContent],
      });
      const snapshotter = metadata.snapshotters.get("mine");
      if (!snapshotter) throw new Error("metadata lost the snapshotter");
      const owned = stack.move();
      return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
    {
      mounter: new Mounter({ sys: linux, tempDir: tmpdir() }),
      renamesLowerDirectories: name === "native",
      skip: process.getuid?.() === 0 ? undefined : "needs root",
    },
  );
}

contentSuite("metadata over a proxy plugin", {
  labels: true,
  open: async (t: TestContext) => {
    const stack = new AsyncDisposableStack();
    const dir = await mkdtemp(join(tmpdir(), "proxy-content-"));
    stack.defer(() => rm(dir, { recursive: true }));
    t.after(() => stack.disposeAsync());
    const store = stack.use(await LocalContentStore.open(join(dir, "content")));
    const metadata = await storageWith(stack, dir, {
      type: "content",
      service: contentService(store),
      others: [],
    });
    return { ctx: Context.background().withNamespace("one"), store: metadata.content };
  },
});
