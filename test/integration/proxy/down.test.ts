import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { codeOf, messageOf } from "#pkg/errors.ts";
import { parseFailpoints } from "#pkg/failpoint.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { FileSnapshotter } from "#test/integration/metadata/file-snapshotter.ts";

const ctx = inNamespace("one");

for (const committed of [true, false]) {
  const what = committed ? "was done" : "was not done";
  test(`a commit that ${what} is settled when the other process is back`, async () => {
    const root = await mkdtemp(join(tmpdir(), "proxy-down-"));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rm(root, { recursive: true }));
    {
      const failpoints = parseFailpoints("metadata.snapshot-commit-before-record=error");
      await using storage = await openStorage(root, { failpoints });
      await storage.overlay.prepare(ctx, "key", "", { labels: { a: "b" } });
      await assert.rejects(storage.overlay.commit(ctx, "name", "key", { labels: { c: "d" } }));
      if (!committed) {
        const [left = ""] = storage.snapshotter.names;
        await storage.snapshotter.remove(ctx, left);
      }
    }
    const path = join(root, "s");
    const transport = stack.use(new GrpcTransport({ path }));
    const proxy = new GrpcSnapshotter(transport, "mine");
    const storage = stack.use(
      await openStorage(root, { snapshotters: new Map([["overlayfs", proxy]]) }),
    );
    await assert.rejects(storage.overlay.commit(ctx, "name", "key"), (error) => {
      return codeOf(error) === "unavailable" && messageOf(error).includes(path);
    });

    const backend = stack.use(await FileSnapshotter.open(join(root, "snapshots")));
    const service = snapshotsServiceOf(new Map([["mine", backend]]));
    const server = stack.use(new GrpcServer({ services: [service] }));
    await server.listen(path, { mode: 0o600 });
    const again = storage.overlay.commit(ctx, "name", "key");
    const expected = committed ? "already-exists" : "not-found";
    await assert.rejects(again, (error) => codeOf(error) === expected);
    if (!committed) return;
    assert.deepEqual((await storage.overlay.stat(ctx, "name")).labels, { c: "d" });
    await assert.rejects(
      storage.overlay.stat(ctx, "key"),
      (error) => codeOf(error) === "not-found",
    );
  });
}
