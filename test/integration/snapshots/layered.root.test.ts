import { tmpdir } from "node:os";
import path from "node:path";
import { Mounter } from "#core/mount/mounter.ts";
import { openMetadata } from "#core/metadata/open.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { snapshotterSuite } from "#core/snapshots/suite.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import type { Context } from "#pkg/context.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";

type Owned = AsyncDisposable & { readonly snapshotter: Snapshotter };

const backends = { overlayfs: OverlaySnapshotter, native: NativeSnapshotter };

/** A snapshotter as clients have it: by namespace, through the daemon's database. */
async function throughMetadata(
  ctx: Context,
  dir: string,
  name: keyof typeof backends,
): Promise<Owned> {
  await using stack = new AsyncDisposableStack();
  const workers = stack.use(new TreeWorkers());
  const root = path.join(dir, name);
  const backend = stack.use(await backends[name].open(ctx, { root, workers }));
  const metadata = stack.use(
    await openMetadata(ctx, {
      path: path.join(dir, "meta.sqlite"),
      content: await LocalContentStore.open(path.join(dir, "content")),
      snapshotters: new Map([[name, backend]]),
    }),
  );
  const snapshotter = metadata.snapshotters.get(name);
  if (!snapshotter) throw new Error("metadata lost the snapshotter");
  const owned = stack.move();
  return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The same behind the gRPC service and its proxy. */
async function throughGrpc(ctx: Context, dir: string, name: keyof typeof backends): Promise<Owned> {
  await using stack = new AsyncDisposableStack();
  const { snapshotter: served } = stack.use(await throughMetadata(ctx, dir, name));
  const services = [snapshotsServiceOf(new Map([[name, served]]))];
  const server = stack.use(new GrpcServer({ services }));
  const socket = path.join(dir, "s.sock");
  await server.listen(socket, { mode: 0o600 });
  const transport = stack.use(new GrpcTransport({ path: socket }));
  const snapshotter = new GrpcSnapshotter(transport, name);
  const owned = stack.move();
  return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

for (const name of ["overlayfs", "native"] as const) {
  const options = {
    mounter: new Mounter({ sys: linux, tempDir: tmpdir() }),
    renamesLowerDirectories: name === "native",
    skip: process.getuid?.() === 0 ? undefined : "needs root",
  };
  snapshotterSuite(`${name}-metadata`, (ctx, dir) => throughMetadata(ctx, dir, name), options);
  snapshotterSuite(`${name}-grpc`, (ctx, dir) => throughGrpc(ctx, dir, name), options);
}
