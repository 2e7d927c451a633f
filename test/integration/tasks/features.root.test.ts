import assert from "node:assert/strict";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { installSandboxShim } from "#test/support/sandbox-shim/install.ts";

// Proved on Go containerd 2.4, by CONTAINERD_TEST_GO: 1.6 does not ask.

const mapped = { uidMappings: [{ containerID: 0, hostID: 1000, size: 1 }] };
const plain = { destination: "/a", source: "/", options: ["rbind"] };

/** Makes a task of a shim that says these features, and removes it. */
async function make(room: Room, mount: object, features?: object): Promise<void> {
  const runtime = await installSandboxShim(room.dir);
  const env: Record<string, string> = { SANDBOX_SHIM_DIR: room.dir };
  if (features) env["SANDBOX_SHIM_FEATURES"] = JSON.stringify(features);
  const daemon = await startDaemon(room, { env });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const spec = {
    typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
    value: Buffer.from(JSON.stringify({ ociVersion: "1.2.0", mounts: [{ ...plain, ...mount }] })),
  };
  const containers = createClient(Containers, transport);
  await containers.create(ctx, { container: { id: "c", runtime: { name: runtime }, spec } });
  const tasks = createClient(Tasks, transport);
  try {
    await tasks.create(ctx, { containerId: "c" });
  } catch (error) {
    assert.deepEqual((await tasks.list(ctx, {})).tasks, []);
    throw error;
  }
  await tasks.kill(ctx, { containerId: "c", signal: 9 });
  await tasks.delete(ctx, { containerId: "c" });
}

const idmap = (enabled: boolean): object => ({
  linux: { mountExtensions: { idmap: { enabled } } },
});
const unsupported = /failed to validate OCI runtime features: idmap mounts not supported: /;

roomTest("a runtime that cannot map mounts is not given any", (room) =>
  assert.rejects(make(room, mapped, { linux: {} }), unsupported),
);

roomTest("nor is one whose mapping is switched off", (room) =>
  assert.rejects(make(room, { options: ["ridmap"] }, idmap(false)), unsupported),
);

roomTest("one that can is", (room) => make(room, mapped, idmap(true)));

roomTest("other mounts need no features", (room) => make(room, {}));
