import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { DeleteResponseSchema } from "#api/runtime/task/v3/shim_pb.ts";
import type {
  LaunchedProgram,
  ProgramRequest,
  ProgramResult,
  ProgramRunner,
} from "#core/runtime/program.ts";
import { dialShim, type ShimDialer } from "#core/runtime/shim-connection.ts";
import { loadShims } from "#core/runtime/shim-loader.ts";
import { defaultShimTimeouts, ShimManager } from "#core/runtime/shim-manager.ts";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import { GrpcSandboxController } from "#core/sandbox/controller-proxy.ts";
import { sandboxPlace } from "#core/sandbox/sandbox-place.ts";
import { ShimSandboxController } from "#core/sandbox/shim-controller.ts";
import {
  type ControllerUnderTest,
  sandboxControllerSuite,
  sandboxOf,
} from "#core/sandbox/suite.ts";
import { Context } from "#pkg/context.ts";
import { notFound } from "#pkg/errors.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { sandboxControllerService } from "#plugins/services/sandbox/controller-service.ts";
import { EventLog } from "#test/integration/metadata/daemon-storage.ts";
import { SandboxShim } from "#test/support/sandbox-shim/services.ts";
import { serveOver } from "./served.ts";

const ctx = Context.background().withNamespace("ns");
const runtime = "io.containerd.boxes.v1";

/** Shims in this process: each `start` serves another socket. */
class ShimsHere implements ProgramRunner {
  readonly servers = new Map<string, TtrpcServer>();
  readonly calls: string[] = [];
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async run(_ctx: Context, { args, cwd }: ProgramRequest): Promise<ProgramResult> {
    const action = args.at(-1) ?? "";
    const id = args[args.indexOf("-id") + 1] ?? "";
    this.calls.push(`${action} ${id}`);
    const said = (stdout: string | Uint8Array): ProgramResult => ({
      failure: "",
      exitCode: 0,
      stdout: Buffer.from(stdout),
      stderr: new Uint8Array(),
    });
    if (action === "-info") return said("");
    if (action === "delete") {
      await this.die(id);
      const exit = { pid: 77, exitStatus: 137, exitedAt: { seconds: 5n, nanos: 0 } };
      return said(toBinary(DeleteResponseSchema, create(DeleteResponseSchema, exit)));
    }
    assert.equal(existsSync(join(cwd, "rootfs")), true);
    const socket = join(this.#dir, `${id}.sock`);
    const shim = new SandboxShim();
    const server = new TtrpcServer({ services: shim.services() });
    await server.listen(socket, { mode: 0o600 });
    this.servers.set(id, server);
    void shim.over.then(() => this.#ended(id, server));
    return said(JSON.stringify({ version: 3, address: `unix://${socket}`, protocol: "ttrpc" }));
  }

  launch(): LaunchedProgram {
    throw new Error("no supervisor here");
  }

  async die(id: string): Promise<void> {
    await this.servers.get(id)?.close({ timeoutMs: 0 });
    this.servers.delete(id);
  }

  async #ended(id: string, server: TtrpcServer): Promise<void> {
    await server.close({ timeoutMs: 100 });
    if (this.servers.get(id) === server) this.servers.delete(id);
  }
}

interface Bench {
  readonly shims: ShimsHere;
  /** With `check` no bundle may be there at the end. */
  readonly left: { check: boolean };
  readonly events: EventLog;
  readonly bundles: string;
  readonly recorded: Set<string>;
  readonly manager: ShimManager;
  readonly controller: ShimSandboxController;
  /** Another daemon on the same directories. */
  restart(): Promise<void>;
}

async function bench(
  t: TestContext,
  { dial = dialShim, cleanup = defaultShimTimeouts.cleanup } = {},
): Promise<Bench> {
  const dir = await mkdtemp(join(tmpdir(), "boxes-"));
  const binary = join(dir, "containerd-shim-boxes-v1");
  await writeFile(binary, "", { mode: 0o755 });
  const shims = new ShimsHere(dir);
  const events = new EventLog();
  const recorded = new Set<string>();
  const make = (): ShimManager =>
    new ShimManager({
      lifetime: Context.background(),
      roots: { root: join(dir, "tasks/root"), state: join(dir, "tasks/state") },
      host: {
        programs: shims,
        grpcAddress: "/g",
        ttrpcAddress: "/t",
        socketDir: "/s",
        containerdBinary: "/bin/containerd",
        version: "1",
        logLevel: "info",
        env: {},
        shimEnv: {},
      },
      search: { daemonDir: dir, path: "" },
      supervisorBinary: "/no/supervisor",
      groups: { grouping: "namespace", hasSchedCore: false, oomScore: 0 },
      publisher: events,
      containers: {
        get: async (_ctx, id) => {
          throw notFound(`container "${id}"`);
        },
      },
      sandboxes: {
        get: async (_ctx, id) => {
          if (!recorded.has(id)) throw notFound(`sandbox "${id}"`);
          const named = { runtime: { name: runtime, options: undefined } };
          return { ...sandboxOf(id, named), createdAt: 0n, updatedAt: 0n };
        },
      },
      dial,
      unmount: async () => {},
      mkfifo: (path) => {
        if (!existsSync(path)) execFileSync("mkfifo", [path]);
      },
      logSink: () => {},
      timeouts: { ...defaultShimTimeouts, cleanup },
    });
  const roots = { root: join(dir, "root"), state: join(dir, "state") };
  await mkdir(roots.state);
  const left = { check: false };
  let manager = make();
  t.after(async () => {
    const namespaces = left.check ? await readdir(roots.state) : [];
    for (const ns of namespaces) assert.deepEqual(await readdir(join(roots.state, ns)), []);
    await manager[Symbol.asyncDispose]();
    for (const id of shims.servers.keys()) await shims.die(id);
    await rm(dir, { recursive: true, force: true });
  });
  return {
    shims,
    left,
    events,
    recorded,
    bundles: join(roots.state, "ns"),
    get manager() {
      return manager;
    },
    get controller() {
      return new ShimSandboxController(manager, roots);
    },
    async restart() {
      await manager[Symbol.asyncDispose]();
      manager = make();
      await loadShims(Context.background(), manager, sandboxPlace(manager, roots));
    },
  };
}

async function inProcess(t: TestContext): Promise<ControllerUnderTest> {
  const { controller, shims, left } = await bench(t);
  left.check = true;
  return { ctx, controller, runtime, killShim: (id) => shims.die(id) };
}

sandboxControllerSuite("shim controller", inProcess);

sandboxControllerSuite("gRPC proxy of the shim controller", async (t) => {
  const under = await inProcess(t);
  const controllers = new Map([["shim", under.controller]]);
  const transport = await serveOver(t, [sandboxControllerService(controllers, new EventLog())]);
  return { ...under, controller: new GrpcSandboxController(transport, "shim") };
});

const boxed = (id: string) => sandboxOf(id, { runtime: { name: runtime, options: undefined } });

test("calls go to the controller they name, and lives are told as events", async (t) => {
  const { controller, events } = await bench(t);
  const services = [sandboxControllerService(new Map([["shim", controller]]), events)];
  const transport = await serveOver(t, services);
  const none = new GrpcSandboxController(transport, "");
  await assert.rejects(none.stop(ctx, "pod"), {
    code: "invalid-argument",
    message: "invalid argument: sandbox controller name can not be empty",
  });
  const unknown = new GrpcSandboxController(transport, "podsandbox");
  await assert.rejects(unknown.start(ctx, "pod"), {
    code: "not-found",
    message:
      'failed to get sandbox controller for "podsandbox": not found: failed to get sandbox controller by podsandbox',
  });
  const proxy = new GrpcSandboxController(transport, "shim");
  await proxy.create(ctx, boxed("pod"));
  const { address, version } = await proxy.start(ctx, "pod");
  assert.match(address, /^ttrpc\+unix:\/\/\/.*pod\.sock$/);
  assert.equal(version, 3);
  await proxy.stop(ctx, "pod");
  await proxy.wait(ctx, "pod");
  await proxy.shutdown(ctx, "pod");
  assert.deepEqual(events.topics, ["/sandboxes/create", "/sandboxes/start", "/sandboxes/exit"]);
});

test("the shim of runc has no sandboxes, and none is started for one", async (t) => {
  const { controller, shims } = await bench(t);
  await assert.rejects(controller.create(ctx, sandboxOf("pod")), {
    code: "not-implemented",
    message:
      "failed to create sandbox pod: service containerd.runtime.sandbox.v1.Sandbox: not implemented",
  });
  assert.equal((await controller.status(ctx, "pod")).state, "");
  assert.deepEqual(shims.calls, []);
});

test("a task is no sandbox, whatever is asked of it by its id", async (t) => {
  const { controller, manager, shims } = await bench(t);
  const tasks = new ShimTaskRuntime(manager);
  const made = await tasks.create(ctx, "c1", { ...task, sandbox: undefined });
  await made.start(ctx, "");
  await assert.rejects(controller.start(ctx, "c1"), {
    code: "unknown",
    message: 'unable to find sandbox "c1"',
  });
  for (const asked of [
    controller.platform(ctx, "c1"),
    controller.wait(ctx, "c1"),
    controller.shutdown(ctx, "c1"),
    controller.metrics(ctx, "c1"),
    controller.update(ctx, "c1", boxed("c1")),
  ]) {
    await assert.rejects(asked, { code: "not-found", message: "sandbox c1: not found" });
  }
  await controller.stop(ctx, "c1");
  assert.equal((await controller.status(ctx, "c1")).state, "");
  await assert.rejects(controller.create(ctx, boxed("c1")), { code: "already-exists" });
  assert.equal((await made.state(ctx, "")).status, "running");
  assert.deepEqual([...shims.servers.keys()], ["c1"]);
  await made.kill(ctx, { execId: "", signal: 9, all: false });
  assert.equal((await tasks.delete(ctx, "c1")).exitStatus, 137);
});

test("the shim of a sandbox that does not start is ended where it does not answer", async (t) => {
  const { controller, shims, bundles } = await bench(t, { cleanup: 300 });
  await controller.create(ctx, boxed("pod"), { annotations: { refuse: "start", mute: "" } });
  await assert.rejects(controller.start(ctx, "pod"), /refused to start/);
  assert.equal(shims.calls.at(-1), "delete pod");
  assert.deepEqual([...shims.servers.keys()], []);
  assert.deepEqual(await readdir(bundles), []);
});

test("a shim that is gone as soon as it has made its sandbox is said to be", async (t) => {
  const dial: ShimDialer = async (within, bootstrap) => {
    const transport = await dialShim(within, bootstrap);
    return new Proxy(transport, {
      get: (target, name) => {
        if (name === "isOpen") return false;
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...given: unknown[]): unknown => Reflect.apply(value, target, given);
      },
    });
  };
  const { controller, bundles } = await bench(t, { dial });
  await assert.rejects(controller.create(ctx, boxed("pod")), {
    code: "unavailable",
    message: "failed to create sandbox pod: its shim is gone: unavailable",
  });
  assert.deepEqual(await readdir(bundles), []);
});

test("a dead shim's sandbox ends with the exit its command tells", async (t) => {
  const { controller, events, shims, bundles } = await bench(t);
  await controller.create(ctx, boxed("pod"));
  await controller.start(ctx, "pod");
  const exited = controller.wait(ctx, "pod");
  await shims.die("pod");
  assert.equal((await exited).exitStatus, 137);
  assert.deepEqual(events.topics, ["/tasks/exit", "/tasks/delete"]);
  assert.deepEqual(await readdir(bundles), []);
  await assert.rejects(controller.wait(ctx, "pod"), { code: "not-found" });
});

test("sandboxes on record outlive the daemon; those of no record and no process are ended", async (t) => {
  const b = await bench(t);
  for (const id of ["kept", "forgotten"]) await b.controller.create(ctx, boxed(id));
  await b.controller.start(ctx, "kept");
  b.recorded.add("kept");
  await b.restart();
  assert.deepEqual(await readdir(b.bundles), ["kept"]);
  assert.equal((await b.controller.status(ctx, "kept")).state, "running");
  await assert.rejects(b.controller.platform(ctx, "forgotten"), { code: "not-found" });
  assert.equal(b.shims.servers.has("forgotten"), false);
  // One whose shim died meanwhile is cleaned up after.
  await b.shims.die("kept");
  await b.restart();
  assert.deepEqual(await readdir(b.bundles), []);
  assert.deepEqual(b.events.topics.slice(-2), ["/tasks/exit", "/tasks/delete"]);
});

const task = {
  spec: undefined,
  rootfs: [],
  io: { stdin: "", stdout: "", stderr: "", terminal: false },
  runtime,
  runtimeOptions: undefined,
  taskOptions: undefined,
};

test("a task joins its sandbox's shim, and leaves it there when it goes", async (t) => {
  const { controller, manager, recorded, shims } = await bench(t);
  await controller.create(ctx, boxed("pod"));
  const { address, version } = await controller.start(ctx, "pod");
  recorded.add("pod");
  const tasks = new ShimTaskRuntime(manager);
  const refs = [
    { id: "pod", address: "", version: 0 },
    { id: "pod", address, version },
  ];
  for (const [index, sandbox] of refs.entries()) {
    const id = `c${index}`;
    const made = await tasks.create(ctx, id, { ...task, sandbox });
    const bundle = manager.records.get("ns", id)?.bundle.path ?? "";
    assert.equal(await readFile(join(bundle, "sandbox"), "utf8"), "pod");
    const bootstrap: unknown = JSON.parse(await readFile(join(bundle, "bootstrap.json"), "utf8"));
    const expected = { version: 3, address: address.replace("ttrpc+", ""), protocol: "ttrpc" };
    assert.deepEqual(bootstrap, expected);
    await made.start(ctx, "");
    await made.kill(ctx, { execId: "", signal: 9, all: false });
    assert.equal((await tasks.delete(ctx, id)).exitStatus, 137);
  }
  // A refused one takes nothing else with it.
  const rootfs = [{ type: "refused", source: "", target: "", options: [] }];
  const [sandbox] = refs;
  await assert.rejects(tasks.create(ctx, "c2", { ...task, rootfs, sandbox }), /refused to create/);
  assert.deepEqual([...shims.servers.keys()], ["pod"]);
  assert.deepEqual(
    shims.calls.filter((call) => /c\d/.test(call)),
    [],
  );
  const { info, state } = await controller.status(ctx, "pod");
  assert.deepEqual([state, info["shutdowns"]], ["running", "c0,c1,c2"]);
});

test("every task of a dead sandbox shim is cleaned up after", async (t) => {
  const { controller, manager, recorded, shims, events } = await bench(t);
  await controller.create(ctx, boxed("pod"));
  recorded.add("pod");
  const tasks = new ShimTaskRuntime(manager);
  const sandbox = { id: "pod", address: "", version: 0 };
  for (const id of ["c1", "c2"]) await tasks.create(ctx, id, { ...task, sandbox });
  await shims.die("pod");
  await Promise.all(manager.records.list("ns").map((record) => manager.cleanUp(record)));
  assert.deepEqual(manager.records.list("ns"), []);
  assert.equal(events.topics.filter((topic) => topic === "/tasks/exit").length, 3);
});

test("a task of a sandbox without shim or with a bad address says so", async (t) => {
  const { controller, manager, recorded, shims } = await bench(t);
  const tasks = new ShimTaskRuntime(manager);
  recorded.add("pod");
  const create = (address: string) =>
    tasks.create(ctx, "c1", { ...task, sandbox: { id: "pod", address, version: 3 } });
  await assert.rejects(create(""), {
    code: "not-found",
    message: "failed to start shim: can't find shim for sandbox pod: not found",
  });
  await assert.rejects(create("unix:///x"), /scheme of sandbox address/);
  // Of a sandbox that is not on record: an old client's, whose tasks have shims of their own.
  recorded.delete("pod");
  await controller.create(ctx, boxed("pod"));
  await create("");
  assert.deepEqual([...shims.servers.keys()], ["pod", "c1"]);
});
