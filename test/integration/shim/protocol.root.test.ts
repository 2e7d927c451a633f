import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
} from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Task as TaskV2 } from "#api/runtime/task/v2/shim_pb.ts";
import { DeleteResponseSchema, Task } from "#api/runtime/task/v3/shim_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { socketAddress } from "#shim/socket-address.ts";
import { type Output, run } from "#test/support/command.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { makeBundle, ownRuntimeRoot } from "./bundle.ts";
import { eventsPathOf, shimPath } from "./supervisor.ts";

suite("the command line of a shim", () => {
  roomTest("start answers parameters with a result, and joins by annotation", async (room) => {
    const address = await startWithParams(room, makeBundle(room, "pod"), "pod");
    const socketDir = join(room.dir, "s");
    const group = { daemonAddress: join(room.dir, "grpc"), namespace: room.namespace, id: "pod" };
    assert.equal(address, socketAddress(socketDir, group));
    const socket = address.slice("unix://".length);
    assert.equal(statSync(socket).mode & 0o777, 0o600);
    assert.equal(statSync(socketDir).mode & 0o777, 0o700);
    const member = makeBundle(room, "member");
    annotate(member, { "io.kubernetes.cri.sandbox-id": "pod" });
    assert.equal(await startWithParams(room, member, "member"), address);
    assert.equal(readFileSync(join(member, "address"), "utf8"), address);
    await shutDown(room, socket);
    assert.deepEqual(readdirSync(socketDir), []);
  });

  roomTest("start answers a daemon without parameters with the bare address", async (room) => {
    const bundle = makeBundle(room, "c1");
    const { code, stdout, stderr } = await shim(room, bundle, "c1", "start", new Uint8Array());
    assert.equal(code, 0, stderr);
    assert.equal(stderr, "");
    assert.match(stdout, /^unix:\/\/\/run\/containerd\/s\/[0-9a-f]{64}$/);
    await using transport = await TtrpcTransport.connect(context(room), stdout.slice(7));
    const { shimPid } = await createClient(TaskV2, transport).connect(context(room), { id: "c1" });
    assert.ok(existsSync(`/proc/${shimPid}`));
    await shutDown(room, stdout.slice(7));
  });

  roomTest(
    "delete ends what a dead supervisor has left, and tells the recorded exit",
    async (room) => {
      const ctx = context(room);
      ownRuntimeRoot(room);
      const bundle = makeBundle(room, "c1");
      const other = makeBundle(room, "c2", { args: ["sh", "-c", "exit 44"] });
      annotate(other, { "io.containerd.runc.v2.group": "c1" });
      const address = await startWithParams(room, bundle, "c1");
      await startWithParams(room, other, "c2");
      const transport = await TtrpcTransport.connect(ctx, address.slice("unix://".length));
      const task = createClient(Task, transport);
      const { pid } = await task.create(ctx, { id: "c1", bundle });
      await task.start(ctx, { id: "c1" });
      await task.create(ctx, { id: "c2", bundle: other });
      await task.start(ctx, { id: "c2" });
      await task.wait(ctx, { id: "c2" });
      const { shimPid } = await task.connect(ctx, { id: "c1" });
      process.kill(shimPid, "SIGKILL");
      await transport.closed;
      const killed = await deleteTask(room, bundle, "c1");
      assert.deepEqual([killed.pid, killed.exitStatus], [pid, 137]);
      assert.equal((await deleteTask(room, other, "c2")).exitStatus, 44);
      assert.equal(existsSync(join(bundle, "task.json")), false);
    },
  );

  roomTest("start of what is no bundle fails with one sentence", async (room) => {
    const bundle = join(room.dir, "empty");
    mkdirSync(bundle);
    const { code, stderr } = await shim(room, bundle, "c1", "start", new Uint8Array());
    assert.equal(code, 1);
    assert.match(stderr, /^io\.containerd\.runc\.v2: .*config\.json.*\n$/);
  });
});

function context(room: Room): Context {
  return Context.background({ signal: room.signal, namespace: room.namespace });
}

async function startWithParams(room: Room, bundle: string, id: string): Promise<string> {
  const params = create(BootstrapParamsSchema, {
    instanceId: id,
    namespace: room.namespace,
    containerdGrpcAddress: join(room.dir, "grpc"),
    containerdTtrpcAddress: eventsPathOf(room),
    socketDir: join(room.dir, "s"),
  });
  const input = toBinary(BootstrapParamsSchema, params);
  const { code, stdout, stderr } = await shim(room, bundle, id, "start", input);
  assert.equal(code, 0, stderr);
  // Daemons read both outputs as one.
  assert.equal(stderr, "");
  const result = fromBinary(BootstrapResultSchema, Buffer.from(stdout, "utf8"));
  assert.deepEqual([result.version, result.protocol], [3, "ttrpc"]);
  return result.address;
}

async function deleteTask(
  room: Room,
  bundle: string,
  id: string,
): Promise<{ pid: number; exitStatus: number }> {
  const out = join(room.dir, `${id}.out`);
  const argv = ["/bin/sh", "-c", 'exec "$@" >"$0"', out, ...argvOf(room, id, "delete")];
  const { code, stderr } = await run(argv, { cwd: bundle, env: envOf(room) });
  assert.equal(code, 0, stderr);
  return fromBinary(DeleteResponseSchema, readFileSync(out));
}

function shim(
  room: Room,
  bundle: string,
  id: string,
  action: string,
  stdin: Uint8Array,
): Promise<Output> {
  return run(argvOf(room, id, action), { cwd: bundle, env: envOf(room), stdin });
}

function argvOf(room: Room, id: string, action: string): string[] {
  const where = ["-namespace", room.namespace, "-address", join(room.dir, "grpc")];
  return [shimPath, ...where, "-publish-binary", "/bin/true", "-id", id, action];
}

function envOf(room: Room): Record<string, string> {
  return { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, TTRPC_ADDRESS: eventsPathOf(room) };
}

/** The reservation of whoever joined is over after ten seconds. */
async function shutDown(room: Room, socket: string): Promise<void> {
  const ctx = context(room);
  const transport = await TtrpcTransport.connect(ctx, socket);
  await createClient(Task, transport).shutdown(ctx, { id: "" });
  await transport.closed;
  while (existsSync(socket)) await sleep(20);
}

function annotate(bundle: string, annotations: Record<string, string>): void {
  const path = join(bundle, "config.json");
  const spec = JSON.parse(readFileSync(path, "utf8")) as object; // -- written by makeBundle
  writeFileSync(path, JSON.stringify({ ...spec, annotations }));
}
