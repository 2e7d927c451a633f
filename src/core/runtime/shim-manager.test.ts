import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { TaskDeleteSchema, TaskExitSchema } from "#api/events/task_pb.ts";
import { BootstrapParamsSchema } from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Task as TaskV2 } from "#api/runtime/task/v2/shim_pb.ts";
import { DeleteResponseSchema, Task as TaskV3 } from "#api/runtime/task/v3/shim_pb.ts";
import { Status } from "#api/types/task/task_pb.ts";
import type { Container } from "#core/containers/containers.ts";
import type {
  LaunchedProgram,
  ProgramRequest,
  ProgramResult,
  ProgramRunner,
} from "#core/runtime/program.ts";
import { createBundle } from "#core/runtime/bundle.ts";
import { dialShim } from "#core/runtime/shim-connection.ts";
import { loadShims, taskPlace } from "#core/runtime/shim-loader.ts";
import { defaultShimTimeouts, ShimManager } from "#core/runtime/shim-manager.ts";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import { sandboxPlace } from "#core/sandbox/sandbox-place.ts";
import { Context } from "#pkg/context.ts";
import { CodedError, codeOf, notFound } from "#pkg/errors.ts";
import { type Handlers, serve } from "#pkg/rpc/service.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";

const options = { typeUrl: "containerd.runc.v1.Options", value: new Uint8Array([10, 0]) };

/**
 * A third-party shim in this process: what its command prints, and its task service on a socket.
 */
class FakeShim implements ProgramRunner {
  readonly calls: string[] = [];
  readonly stdin = new Map<string, Uint8Array>();
  readonly socket: string;
  /** Overrides of single methods. */
  handlers: Handlers<typeof TaskV3> = {};
  versions: readonly (2 | 3)[] = [3];
  output: string | Uint8Array | undefined;
  /** Called when a start hangs that `failure` told to. */
  onHang = (): void => {};
  failure = "";
  hasInfo = true;
  deleteFailure = "";
  exitCode = 0;
  hasTask = false;
  stateFailure: CodedError | undefined;
  protocol: "ttrpc" | "grpc" = "ttrpc";
  #server: TtrpcServer | GrpcServer | undefined;

  constructor(dir: string) {
    this.socket = join(dir, "shim.sock");
  }

  async run(ctx: Context, request: ProgramRequest): Promise<ProgramResult> {
    const action = request.args.at(-1) ?? "";
    this.calls.push(action);
    this.stdin.set(action, request.stdin);
    const said = (stdout: string | Uint8Array, failure = "", stderr = ""): ProgramResult => ({
      failure,
      exitCode: failure === "" ? 0 : 1,
      stdout: Buffer.from(stdout),
      stderr: Buffer.from(stderr),
    });
    if (action === "-info") {
      return this.hasInfo ? said("") : said("", "exit status 2", "flag provided but not defined");
    }
    if (action === "delete") {
      if (this.deleteFailure !== "") return said("", this.deleteFailure, "no luck");
      const exitedAt = { seconds: 5n, nanos: 0 };
      const response = { pid: 42, exitStatus: 137, exitedAt };
      return said(toBinary(DeleteResponseSchema, create(DeleteResponseSchema, response)));
    }
    if (this.failure === "hang") {
      await new Promise((resolve) => {
        ctx.signal.addEventListener("abort", resolve, { once: true });
        this.onHang();
      });
      return said("", "signal: killed");
    }
    if (this.failure !== "") return said(this.output ?? "", this.failure);
    await this.serve();
    return said(
      this.output ??
        `{"version":3,"address":"unix://${this.socket}","protocol":"${this.protocol}"}`,
    );
  }

  launch(): LaunchedProgram {
    throw new Error("no supervisor here");
  }

  async serve(): Promise<void> {
    const handlers: Handlers<typeof TaskV3> = {
      create: async (_ctx, request) => {
        this.calls.push(`Create ${request.id}`);
        this.hasTask = true;
        return { pid: 42 };
      },
      state: async () => {
        if (this.stateFailure) throw this.stateFailure;
        if (!this.hasTask) throw notFound("container not created");
        return { id: "c1", pid: 42, status: Status.RUNNING };
      },
      connect: async () => ({ shimPid: 41, taskPid: this.hasTask ? 42 : 0 }),
      delete: async () => {
        this.calls.push("Delete");
        if (!this.hasTask) throw notFound("container not created");
        this.hasTask = false;
        return { pid: 42, exitStatus: this.exitCode, exitedAt: { seconds: 7n, nanos: 0 } };
      },
      kill: async () => {
        this.calls.push("Kill");
        return {};
      },
      wait: async () => ({ exitStatus: 137, exitedAt: { seconds: 7n, nanos: 0 } }),
      shutdown: async () => {
        this.calls.push("Shutdown");
        return {};
      },
      ...this.handlers,
    };
    const services = this.versions.map((version) =>
      version === 3
        ? serve(TaskV3, handlers)
        : // -- the same messages by field
          serve(TaskV2, handlers as unknown as Handlers<typeof TaskV2>),
    );
    await this.die();
    this.#server =
      this.protocol === "grpc" ? new GrpcServer({ services }) : new TtrpcServer({ services });
    await this.#server.listen(this.socket, { mode: 0o600 });
  }

  async die(): Promise<void> {
    await this.#server?.close({ timeoutMs: 0 });
    this.#server = undefined;
  }
}

interface Bench extends AsyncDisposable {
  readonly dir: string;
  readonly bundles: string;
  readonly shim: FakeShim;
  readonly ctx: Context;
  readonly events: string[];
  readonly containers: Map<string, Container>;
  readonly manager: ShimManager;
  readonly runtime: ShimTaskRuntime;
  create(id?: string): Promise<void>;
  /** Another daemon on the same directories. */
  restart(): Promise<void>;
}

async function bench(): Promise<Bench> {
  const dir = await mkdtemp(join(tmpdir(), "shims-"));
  const binary = join(dir, "containerd-shim-fake-v1");
  await writeFile(binary, "", { mode: 0o755 });
  const shim = new FakeShim(dir);
  const events: string[] = [];
  const containers = new Map<string, Container>();
  const ctx = Context.background().withNamespace("ns");
  const roots = { root: join(dir, "root"), state: join(dir, "state") };
  const make = (): ShimManager =>
    new ShimManager({
      lifetime: Context.background(),
      roots,
      host: {
        programs: shim,
        grpcAddress: "/g",
        ttrpcAddress: "/t",
        socketDir: "/s",
        containerdBinary: "/bin/containerd",
        version: "1",
        logLevel: "info",
        env: {},
        shimEnv: {},
      },
      groups: { grouping: "namespace", hasSchedCore: false, oomScore: 0 },
      search: { daemonDir: dir, path: "" },
      supervisorBinary: "/no/supervisor",
      publisher: {
        publish: async (_ctx, topic, { value }) => {
          const schema = topic === "/tasks/exit" ? TaskExitSchema : TaskDeleteSchema;
          const { containerId, exitStatus } = fromBinary(schema, value);
          events.push(`${topic} ${containerId} ${exitStatus}`);
        },
      },
      containers: {
        get: async (_ctx, id) => {
          const container = containers.get(id);
          if (!container) throw notFound(`container "${id}"`);
          return container;
        },
      },
      sandboxes: {
        get: async (_ctx, id) => {
          throw notFound(`sandbox "${id}"`);
        },
      },
      dial: dialShim,
      unmount: async (path) => {
        if (path.includes("stuck")) throw new Error(`${path} stays mounted`);
      },
      mkfifo: (path) => {
        if (!existsSync(path)) execFileSync("mkfifo", [path]);
      },
      logSink: () => {},
      timeouts: defaultShimTimeouts,
    });
  let manager = make();
  return {
    dir,
    bundles: join(roots.state, "ns"),
    shim,
    ctx,
    events,
    containers,
    get manager() {
      return manager;
    },
    get runtime() {
      return new ShimTaskRuntime(manager);
    },
    async create(id = "c1") {
      const container = { id, runtime: { name: "io.containerd.fake.v1" } };
      containers.set(id, container as Container); // -- what loading reads
      await new ShimTaskRuntime(manager).create(ctx, id, {
        spec: undefined,
        rootfs: [],
        io: { stdin: "", stdout: "", stderr: "", terminal: false },
        runtime: "io.containerd.fake.v1",
        runtimeOptions: options,
        taskOptions: undefined,
        sandbox: undefined,
      });
    },
    async restart() {
      await manager[Symbol.asyncDispose]();
      manager = make();
      await loadShims(Context.background(), manager, taskPlace(manager));
    },
    async [Symbol.asyncDispose]() {
      await manager[Symbol.asyncDispose]();
      await shim.die();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** The next turns of the loop, until the condition holds. */
async function eventually(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "it never came to be");
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

test("create() starts the shim with the bootstrap message and keeps its answer", async () => {
  await using b = await bench();
  await b.create();
  assert.deepEqual(b.shim.calls, ["-info", "start", "Create c1"]);
  const params = fromBinary(BootstrapParamsSchema, b.shim.stdin.get("start") ?? new Uint8Array());
  assert.deepEqual([params.instanceId, params.namespace], ["c1", "ns"]);
  const bundle = join(b.bundles, "c1");
  assert.deepEqual(JSON.parse(await readFile(join(bundle, "bootstrap.json"), "utf8")), {
    version: 3,
    address: `unix://${b.shim.socket}`,
    protocol: "ttrpc",
  });
  const path = await readFile(join(bundle, "shim-binary-path"), "utf8");
  assert.equal(path, join(b.dir, "containerd-shim-fake-v1"));
});

test("start() of a task and a sandbox with one id leaves no shim that nobody knows", async () => {
  await using b = await bench();
  const request = {
    runtime: "io.containerd.fake.v1",
    options: undefined,
    sandbox: undefined,
    spec: undefined,
  };
  const starts = ["tasks", "sandboxes"].map(async (kind) => {
    const roots = { root: join(b.dir, kind, "root"), state: join(b.dir, kind, "state") };
    const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: undefined });
    return b.manager.start(b.ctx, bundle, request);
  });
  const results = await Promise.allSettled(starts);
  const failed = results.filter((result) => result.status === "rejected");
  assert.deepEqual(
    failed.map(({ reason }) => codeOf(reason)),
    ["already-exists"],
  );
  assert.deepEqual(
    b.shim.calls.filter((call) => call === "start"),
    ["start"],
  );
});

test("create() gives a shim without -info the runtime's options alone", async () => {
  await using b = await bench();
  b.shim.hasInfo = false;
  await b.create();
  const any = fromBinary(AnySchema, b.shim.stdin.get("start") ?? new Uint8Array());
  assert.equal(any.typeUrl, options.typeUrl);
});

test("create() falls back to the task service 2 of a shim that says 3", async () => {
  await using b = await bench();
  b.shim.versions = [2];
  await b.create();
  assert.ok(b.shim.calls.includes("Create c1"));
  const task = await b.runtime.get(b.ctx, "c1");
  assert.equal((await task.state(b.ctx, "")).status, "running");
  await b.restart();
  assert.equal((await (await b.runtime.get(b.ctx, "c1")).state(b.ctx, "")).pid, 42);
});

test("a shim that speaks gRPC is driven, reloaded and cleaned up after as well", async () => {
  await using b = await bench();
  b.shim.protocol = "grpc";
  await b.create();
  assert.equal((await (await b.runtime.get(b.ctx, "c1")).state(b.ctx, "")).status, "running");
  await b.restart();
  const task = await b.runtime.get(b.ctx, "c1");
  assert.equal((await task.state(b.ctx, "")).pid, 42);
  await b.shim.die();
  await eventually(() => b.events.length === 2);
  assert.deepEqual(b.events, ["/tasks/exit c1 137", "/tasks/delete c1 137"]);
  await b.create("c2");
  await b.runtime.delete(b.ctx, "c2");
  assert.deepEqual(await readdir(b.bundles), []);
});

const badStarts = [
  {
    what: "exit",
    failure: "exit status 1",
    output: "no runc",
    words: /start failed: no runc: exit status 1/,
  },
  { what: "silence", failure: "", output: "", words: /start failed: unexpected protocol: ""/ },
  {
    what: "a newer version",
    failure: "",
    output: '{"version":9}',
    words: /unsupported shim version \(9\)/,
  },
  {
    what: "no socket",
    failure: "",
    output: "unix:///no/such",
    words: /failed to create TTRPC connection/,
  },
  { what: "stray words", failure: "", output: "warning\nunix:///x", words: /start failed/ },
  {
    what: "a strange scheme",
    failure: "",
    output: '{"version":3,"address":"vsock://2:3","protocol":"ttrpc"}',
    words: /unsupported protocol: vsock/,
  },
  {
    what: "a wrong field",
    failure: "",
    output: '{"version":3,"address":[]}',
    words: /field address is \[\]/,
  },
] as const;
for (const { what, failure, output, words } of badStarts) {
  test(`create() leaves nothing of a shim that answers start with ${what}`, async () => {
    await using b = await bench();
    b.shim.failure = failure;
    b.shim.output = output;
    await assert.rejects(b.create(), words);
    assert.deepEqual(await readdir(b.bundles), []);
    assert.deepEqual(b.manager.records.list(), []);
    assert.deepEqual(b.events, []);
    // A process may have come of it all the same.
    assert.equal(b.shim.calls.at(-1), "delete");
  });
}

test("create() says that a shim was killed when its caller ran out of time", async () => {
  await using b = await bench();
  b.shim.failure = "hang";
  const deadline = new AbortController();
  b.shim.onHang = () => deadline.abort(new DOMException("too late", "TimeoutError"));
  const bounded = b.ctx.withSignal(deadline.signal);
  await assert.rejects(
    b.runtime.create(bounded, "c1", {
      spec: undefined,
      rootfs: [],
      io: { stdin: "", stdout: "", stderr: "", terminal: false },
      runtime: "io.containerd.fake.v1",
      runtimeOptions: undefined,
      taskOptions: undefined,
      sandbox: undefined,
    }),
    (error: Error) =>
      codeOf(error) === "deadline-exceeded" &&
      /shim killed after context deadline exceeded: signal: killed/.test(error.message),
  );
  assert.deepEqual(await readdir(b.bundles), []);
});

test("create() that fails in the shim ends the shim and frees the id", async () => {
  await using b = await bench();
  b.shim.handlers = {
    create: async () => {
      throw new CodedError("unknown", "OCI runtime create failed: no");
    },
  };
  await assert.rejects(b.create(), /failed to create shim task: OCI runtime create failed: no/);
  assert.deepEqual(b.shim.calls.slice(-3), ["Delete", "Shutdown", "delete"]);
  assert.deepEqual(await readdir(b.bundles), []);
  b.shim.handlers = {};
  await b.create();
});

test("create() that loses its shim in the middle leaves nothing and sends nothing", async () => {
  await using b = await bench();
  b.shim.handlers = {
    create: async () => {
      void b.shim.die();
      return new Promise(() => {});
    },
  };
  await assert.rejects(b.create(), /ttrpc: closed/);
  assert.deepEqual(await readdir(b.bundles), []);
  assert.deepEqual(b.events, []);
});

test("delete() gives the exit, shuts the shim down and removes the bundle", async () => {
  await using b = await bench();
  await b.create();
  b.shim.exitCode = 3;
  const exit = await b.runtime.delete(b.ctx, "c1");
  assert.deepEqual([exit.pid, exit.exitStatus, exit.exitedAt], [42, 3, 7_000_000_000n]);
  assert.deepEqual(b.shim.calls.slice(-2), ["Delete", "Shutdown"]);
  assert.deepEqual(await readdir(b.bundles), []);
  assert.deepEqual(b.events, []);
  await assert.rejects(b.runtime.delete(b.ctx, "c1"), (error: Error) => {
    assert.equal(codeOf(error), "not-found");
    return true;
  });
});

test("delete() whose shutdown fails keeps the task, and a retry gives the first exit", async () => {
  await using b = await bench();
  let refusals = 2;
  b.shim.handlers = {
    shutdown: async () => {
      if (refusals-- > 0) throw new CodedError("unknown", "please retry");
      return {};
    },
  };
  b.shim.exitCode = 5;
  await b.create();
  const words = /^CodedError: failed to delete task: failed to invoke shutdown: please retry$/;
  await assert.rejects(b.runtime.delete(b.ctx, "c1"), words);
  assert.deepEqual(await readdir(b.bundles), ["c1"]);
  await assert.rejects(b.runtime.delete(b.ctx, "c1"), words);
  assert.equal((await b.runtime.delete(b.ctx, "c1")).exitStatus, 5);
  assert.deepEqual(await readdir(b.bundles), []);
  assert.deepEqual(b.events, []);
});

test("a shim that dies after its task was deleted owes no events", async () => {
  await using b = await bench();
  b.shim.handlers = {
    shutdown: async () => {
      throw new CodedError("unknown", "please retry");
    },
  };
  await b.create();
  await assert.rejects(b.runtime.delete(b.ctx, "c1"), /please retry/);
  await b.shim.die();
  await eventually(() => !existsSync(join(b.bundles, "c1")));
  assert.deepEqual(b.events, []);
});

test("delete() of a task that the shim never had frees what is left of it", async () => {
  await using b = await bench();
  await b.create();
  b.shim.hasTask = false;
  await assert.rejects(b.runtime.delete(b.ctx, "c1"), (error: Error) => {
    assert.equal(codeOf(error), "not-found");
    assert.match(error.message, /failed to delete task: container not created/);
    return true;
  });
  assert.deepEqual(await readdir(b.bundles), []);
});

test("a shim that dies is cleaned up after with exit and delete events", async () => {
  await using b = await bench();
  await b.create();
  await b.shim.die();
  await eventually(() => b.manager.records.list().length === 0);
  assert.deepEqual(b.events, ["/tasks/exit c1 137", "/tasks/delete c1 137"]);
  assert.equal(existsSync(join(b.bundles, "c1")), false);
  assert.equal(b.shim.calls.at(-1), "delete");
  await assert.rejects(b.runtime.get(b.ctx, "c1"), /task c1: not found/);
});

test("a shim whose delete command fails is said to have ended with 255", async () => {
  await using b = await bench();
  await b.create();
  b.shim.deleteFailure = "exit status 1";
  await b.shim.die();
  await eventually(() => b.events.length === 2);
  assert.deepEqual(b.events, ["/tasks/exit c1 255", "/tasks/delete c1 255"]);
});

test("wait() of a task whose shim dies resolves with what the clean-up found out", async () => {
  await using b = await bench();
  b.shim.handlers = { wait: () => new Promise(() => {}) };
  await b.create();
  const task = await b.runtime.get(b.ctx, "c1");
  const exit = task.wait(b.ctx, "");
  await b.shim.die();
  assert.deepEqual((await exit).exitStatus, 137);
});

test("loading keeps a shim that has its task and ends one that has none", async () => {
  await using b = await bench();
  await b.create();
  await b.restart();
  assert.equal((await b.runtime.list(b.ctx)).length, 1);
  b.shim.hasTask = false;
  await b.restart();
  assert.deepEqual(await b.runtime.list(b.ctx), []);
  assert.equal(b.shim.calls.at(-1), "Shutdown");
  assert.deepEqual(await readdir(b.bundles), []);
});

test("loading cleans up after a shim that nobody can reach", async () => {
  await using b = await bench();
  await b.create();
  await b.shim.die();
  await eventually(() => b.events.length === 2);
  b.events.length = 0;
  await b.create("c2");
  const bundle = join(b.bundles, "c2");
  await writeFile(join(bundle, "bootstrap.json"), "garbage that is no address");
  await b.restart();
  assert.deepEqual(b.events, ["/tasks/exit c2 137", "/tasks/delete c2 137"]);
  assert.deepEqual(await readdir(b.bundles), []);
});

test("loading reads the address file of an older daemon and writes bootstrap.json", async () => {
  await using b = await bench();
  b.shim.versions = [2];
  b.shim.output = `unix://${b.shim.socket}`;
  await b.create();
  const bundle = join(b.bundles, "c1");
  await rm(join(bundle, "bootstrap.json"));
  await writeFile(join(bundle, "address"), `unix://${b.shim.socket}`);
  await b.restart();
  assert.equal((await b.runtime.list(b.ctx)).length, 1);
  assert.match(await readFile(join(bundle, "bootstrap.json"), "utf8"), /"version":2/);
});

test("loading kills a task whose container is not on record", async () => {
  await using b = await bench();
  await b.create();
  b.containers.clear();
  await b.restart();
  assert.deepEqual(b.shim.calls.slice(-3), ["Kill", "Delete", "Shutdown"]);
  assert.deepEqual(await readdir(b.bundles), []);
});

test("loading keeps a task whose shim is mute and one whose record cannot be read", async () => {
  await using b = await bench();
  await b.create();
  b.shim.stateFailure = new CodedError("unavailable", "busy");
  await b.restart();
  assert.equal((await b.runtime.list(b.ctx)).length, 1);
  b.containers.get = () => {
    throw new CodedError("internal", "database is locked");
  };
  await b.restart();
  assert.deepEqual(await readdir(b.bundles), ["c1"]);
  assert.deepEqual(await readdir(join(b.dir, "root", "ns")), ["c1"]);
});

test("loading goes on with a shim whose binary has moved", async () => {
  await using b = await bench();
  await b.create();
  await rm(join(b.dir, "containerd-shim-fake-v1"));
  await b.restart();
  assert.equal((await (await b.runtime.get(b.ctx, "c1")).state(b.ctx, "")).status, "running");
  assert.deepEqual(b.events, []);
  // That of the container's record is as little there.
  await rm(join(b.bundles, "c1", "shim-binary-path"));
  await b.restart();
  assert.equal((await (await b.runtime.get(b.ctx, "c1")).state(b.ctx, "")).status, "running");
});

test("loading tells the end of a shim that is as gone as its binary", async () => {
  await using b = await bench();
  await b.create();
  const bundle = join(b.bundles, "c1");
  await writeFile(join(bundle, "bootstrap.json"), "garbage that is no address");
  await rm(join(b.dir, "containerd-shim-fake-v1"));
  b.shim.deleteFailure = "no such file or directory";
  await b.restart();
  assert.deepEqual(b.events, ["/tasks/exit c1 255", "/tasks/delete c1 255"]);
  assert.deepEqual(await readdir(b.bundles), []);
});

test("loading cleans up once after a shim that dies meanwhile", async () => {
  await using b = await bench();
  const ends = ["/tasks/exit c1 137", "/tasks/delete c1 137"];
  const deletions = (): number => b.shim.calls.filter((call) => call === "delete").length;
  await b.create();
  b.shim.handlers = {
    connect: () => {
      void b.shim.die();
      return new Promise(() => {});
    },
  };
  await b.manager[Symbol.asyncDispose]();
  await b.shim.serve();
  await b.restart();
  assert.deepEqual([b.events, deletions()], [ends, 1]);
  assert.deepEqual(await readdir(b.bundles), []);

  b.events.length = 0;
  b.shim.handlers = {};
  await b.create();
  b.shim.handlers = {
    connect: async () => {
      setImmediate(() => void b.shim.die());
      return { shimPid: 41, taskPid: 42 };
    },
  };
  await b.manager[Symbol.asyncDispose]();
  await b.shim.serve();
  await b.restart();
  await eventually(() => b.manager.records.list().length === 0);
  assert.deepEqual([b.events, deletions()], [ends, 2]);
  assert.equal(existsSync(join(b.bundles, "c1")), false);
});

test("loading sandboxes leaves alone the supervisors of tasks that are loaded later", async () => {
  await using b = await bench();
  await b.manager[Symbol.asyncDispose]();
  await b.shim.serve();
  await mkdir(b.bundles, { recursive: true });
  const file = join(b.bundles, ".supervisor-g");
  const address = `unix://${b.shim.socket}`;
  await writeFile(file, JSON.stringify({ version: 3, address, protocol: "ttrpc" }));
  const roots = { root: join(b.dir, "sandboxes-root"), state: join(b.dir, "sandboxes-state") };
  await mkdir(join(roots.state, "ns"), { recursive: true });
  await loadShims(Context.background(), b.manager, sandboxPlace(b.manager, roots));
  assert.deepEqual([b.shim.calls, existsSync(file)], [[], true]);
  await loadShims(Context.background(), b.manager, taskPlace(b.manager));
  assert.deepEqual([b.shim.calls, existsSync(file)], [["Shutdown"], false]);
});

test("loading goes on beside a removed bundle that stays mounted", async () => {
  await using b = await bench();
  await b.create();
  await mkdir(join(b.bundles, ".stuck"), { recursive: true });
  await b.restart();
  const ids = b.manager.records.list().map(({ id }) => id);
  assert.deepEqual([ids, (await readdir(b.bundles)).includes(".stuck")], [["c1"], true]);
});

test("loading removes a bundle whose making was cut short", async () => {
  await using b = await bench();
  await mkdir(join(b.bundles, "c1"), { recursive: true });
  await b.restart();
  assert.deepEqual(await readdir(b.bundles), []);
});
