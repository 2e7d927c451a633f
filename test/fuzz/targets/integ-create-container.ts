import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { Context } from "#pkg/context.ts";
import { codeOf, isErrno } from "#pkg/errors.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import { specTypeUrl } from "#pkg/oci/runtime-spec.ts";
import { applyOptions, withArgs, withRootPath } from "#pkg/oci/spec-options.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { makeRootfs } from "#test/integration/shim/bundle.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { openRoom, type Room } from "#test/support/room.ts";

// Only what cannot reach the host: a random namespace or mount would be made there.
const container = fc.record({
  id: fc.oneof(
    fc.constantFrom("c1", "c2", "..", "a/b", "a".repeat(77)),
    fc.string({ maxLength: 8 }),
  ),
  runtime: fc.constantFrom("io.containerd.runc.v2", "io.containerd.none.v1", "none", ""),
  stdout: fc.constantFrom(
    "",
    "weird://x",
    "binary:///nonexistent",
    "/nonexistent",
    "file:///proc/x/y",
  ),
  terminal: fc.boolean(),
  spec: fc.oneof(
    { weight: 3, arbitrary: fc.record({ field: fc.nat(), value: fc.jsonValue() }) },
    { weight: 1, arbitrary: fc.string() },
  ),
  execId: fc.oneof(fc.constantFrom("e1", "..", ""), fc.string({ maxLength: 4 })),
  exec: fc.oneof(fc.constant('{"cwd":"/","args":["true"],"user":{}}'), fc.json(), fc.string()),
});
type Given = typeof container extends fc.Arbitrary<infer T> ? T : never;

/** Whatever a client asks for, it is told a class of error, the daemon lives, and nothing is left. */
export const target = fuzzTarget({
  name: "IntegCreateContainer",
  needsRoot: true,
  smokeRuns: 2,
  inputs: fc.array(container, { minLength: 1, maxLength: 6 }),
  async check(given) {
    const { room, close } = await openRoom();
    try {
      const daemon = await startDaemon(room, { kind: "ours" });
      const ctx = Context.background({ namespace: room.namespace });
      const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
      const clients = {
        containers: createClient(Containers, transport),
        tasks: createClient(Tasks, transport),
      };
      const rootfs = makeRootfs(room, join(room.dir, "rootfs"));
      for (const each of given) await live(room, { ctx, ...clients, rootfs }, each);
      assert.deepEqual((await clients.tasks.list(ctx, {})).tasks, []);
      assert.deepEqual((await clients.containers.list(ctx, {})).containers, []);
      const bundles = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace);
      assert.deepEqual(namesIn(bundles), []);
    } finally {
      await close();
    }
  },
});

interface Clients {
  readonly ctx: Context;
  readonly containers: ReturnType<typeof createClient<typeof Containers>>;
  readonly tasks: ReturnType<typeof createClient<typeof Tasks>>;
  readonly rootfs: string;
}

/** A container from its creation to its end, as far as it gets. */
async function live(room: Room, clients: Clients, given: Given): Promise<void> {
  const { ctx, containers, tasks } = clients;
  const { id: containerId, execId, stdout, terminal } = given;
  const value = Buffer.from(specText(room, clients.rootfs, given));
  const made = await attempt(() =>
    containers.create(ctx, {
      container: {
        id: containerId,
        runtime: { name: given.runtime },
        spec: { typeUrl: specTypeUrl, value },
      },
    }),
  );
  if (!made) return;
  const io = { stdout, stderr: stdout, terminal };
  if (await attempt(() => tasks.create(ctx, { containerId, ...io }))) {
    const exit = tasks.wait(ctx, { containerId });
    await attempt(() => tasks.start(ctx, { containerId }));
    const spec = { typeUrl: specTypeUrl, value: Buffer.from(given.exec) };
    await attempt(() => tasks.exec(ctx, { containerId, execId, spec, terminal: false }));
    await attempt(() => tasks.start(ctx, { containerId, execId }));
    await attempt(() => tasks.kill(ctx, { containerId, signal: 9, all: true }));
    await exit;
    await tasks.delete(ctx, { containerId });
  }
  await containers.delete(ctx, { id: containerId });
}

async function attempt(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    // A runtime's own refusal is `unknown`, as upstream's; these would be ours.
    const code = codeOf(error);
    if (code === "internal" || code === "unavailable" || code === "deadline-exceeded") throw error;
    return false;
  }
}

function specText(room: Room, rootfs: string, { id, spec }: Given): string {
  if (typeof spec === "string") return spec;
  const whole = applyOptions(
    defaultSpec({ namespace: room.namespace, id: id.replaceAll(/[^a-z0-9]/g, "") || "c" }),
    withRootPath(rootfs),
    withArgs(["sleep", "1000"]),
  );
  const process: Record<string, unknown> = { ...whole.process };
  const fields = Object.keys(process);
  process[fields[spec.field % fields.length] ?? "args"] = spec.value;
  return JSON.stringify({ ...whole, ociVersion: "1.0.2", process });
}

function namesIn(directory: string): string[] {
  try {
    // A supervisor has a place of its own there while it lives.
    return readdirSync(directory).filter((name) => !name.startsWith("."));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return []; // no task was made
    throw error;
  }
}
