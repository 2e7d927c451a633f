import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type CreateTaskRequestSchema, Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import type { Container } from "#core/containers/containers.ts";
import { Deprecations } from "#core/introspection/deprecations.ts";
import type { CreateTaskOptions, ProcessState, Task, TaskRuntime } from "#core/runtime/runtime.ts";
import { Context } from "#pkg/context.ts";
import { CodedError, codeOf, notFound } from "#pkg/errors.ts";
import type { Handlers } from "#pkg/rpc/service.ts";
import { LocalTasks } from "./local.ts";
import { tasksService } from "./service.ts";

const ctx = Context.background().withNamespace("ns");

const running: ProcessState = {
  id: "c1",
  pid: 42,
  status: "running",
  stdin: "",
  stdout: "/out",
  stderr: "",
  terminal: true,
  exitStatus: 0,
  exitedAt: undefined,
};

/** Tasks by id; what a task does not have, no test may call. */
class FakeRuntime implements TaskRuntime {
  readonly tasks = new Map<string, Partial<Task>>();
  created: CreateTaskOptions | undefined;

  async create(_ctx: Context, id: string, options: CreateTaskOptions): Promise<Task> {
    this.created = options;
    return { id, pid: async () => 42 } as unknown as Task; // -- all that creating reads
  }

  async get(_ctx: Context, id: string): Promise<Task> {
    const task = this.tasks.get(id);
    if (!task) throw notFound(id);
    return { id, namespace: "ns", ...task } as Task; // -- as above
  }

  async list(): Promise<readonly Task[]> {
    return Promise.all([...this.tasks.keys()].map((id) => this.get(ctx, id)));
  }

  async delete(): Promise<{ pid: number; exitStatus: number; exitedAt: bigint }> {
    return { pid: 42, exitStatus: 3, exitedAt: 1_500_000_000n };
  }
}

function setUp(): {
  handlers: Required<Handlers<typeof Tasks>>;
  runtime: FakeRuntime;
  containers: Map<string, Partial<Container>>;
} {
  const runtime = new FakeRuntime();
  const containers = new Map<string, Partial<Container>>([
    [
      "c1",
      { id: "c1", runtime: { name: "io.containerd.runc.v2", options: undefined }, sandbox: "" },
    ],
  ]);
  const local = new LocalTasks({
    containers: {
      get: async (_ctx, id) => {
        const container = containers.get(id);
        if (!container) throw notFound(`container "${id}" in namespace "ns"`);
        return container as Container; // -- with what tasks read of it
      },
    },
    runtime,
    stateTimeoutMs: 20,
  });
  const { handlers } = tasksService(local, new Deprecations());
  return { handlers: handlers as Required<Handlers<typeof Tasks>>, runtime, containers };
}

function request(
  init: MessageInitShape<typeof CreateTaskRequestSchema>,
): MessageShape<typeof CreateTaskRequestSchema> {
  return create(Tasks.method.create.input, init);
}

function failsWith(code: string, words: RegExp) {
  return (error: Error): boolean => {
    assert.equal(codeOf(error), code, error.message);
    assert.match(error.message, words);
    return true;
  };
}

test("Create takes the runtime from the container, or from the request's path", async () => {
  const { handlers, runtime } = setUp();
  const answer = await handlers.create(ctx, request({ containerId: "c1", stdout: "/out" }));
  assert.deepEqual(answer, { containerId: "c1", pid: 42 });
  assert.equal(runtime.created?.runtime, "io.containerd.runc.v2");
  assert.deepEqual(runtime.created?.io, { stdin: "", stdout: "/out", stderr: "", terminal: false });
  await handlers.create(ctx, request({ containerId: "c1", runtimePath: "/bin/shim" }));
  assert.equal(runtime.created?.runtime, "/bin/shim");
});

test("Create says what it cannot do yet", async () => {
  const { handlers } = setUp();
  const unsupported = [
    { checkpoint: { mediaType: "x" } },
    { options: runcOptions({ criuImagePath: "/images" }) },
  ];
  for (const more of unsupported) {
    await assert.rejects(
      handlers.create(ctx, request({ containerId: "c1", ...more })),
      failsWith("not-implemented", /not implemented/),
    );
  }
  await assert.rejects(
    handlers.create(
      ctx,
      request({ containerId: "c1", options: { ...runcOptions({}), value: Buffer.from([0xff]) } }),
    ),
    failsWith("invalid-argument", /field options: containerd.runc.v1.Options/),
  );
});

function runcOptions(init: MessageInitShape<typeof OptionsSchema>) {
  return {
    typeUrl: OptionsSchema.typeName,
    value: toBinary(OptionsSchema, create(OptionsSchema, init)),
  };
}

test("a container without a task and a task without a container are told apart", async () => {
  const { handlers, runtime, containers } = setUp();
  const get = (containerId: string) =>
    handlers.get(ctx, create(Tasks.method.get.input, { containerId }));
  await assert.rejects(get("c1"), failsWith("not-found", /^task c1 not found$/));
  runtime.tasks.set("c2", {});
  await assert.rejects(get("c2"), failsWith("not-found", /container "c2" in namespace "ns"/));
  containers.clear();
  await assert.rejects(
    handlers.delete(ctx, create(Tasks.method.delete.input, { containerId: "c1" })),
    failsWith("not-found", /container "c1"/),
  );
});

test("Get shows a process, with the first day of the year 1 until it exits", async () => {
  const { handlers, runtime } = setUp();
  runtime.tasks.set("c1", { state: async () => running });
  const answer = await handlers.get(ctx, create(Tasks.method.get.input, { containerId: "c1" }));
  assert.deepEqual(answer.process, {
    ...running,
    status: 2,
    exitedAt: { seconds: -62_135_596_800n, nanos: 0 },
  });
});

test("Get shows an unknown state of a failing shim, and the silence of a mute one", async () => {
  const { handlers, runtime } = setUp();
  runtime.tasks.set("c1", {
    state: async () => {
      throw new CodedError("internal", "boom");
    },
  });
  const ask = () => handlers.get(ctx, create(Tasks.method.get.input, { containerId: "c1" }));
  assert.equal((await ask()).process?.status, 0);
  runtime.tasks.set("c1", { state: mute });
  await assert.rejects(ask(), failsWith("deadline-exceeded", /context deadline exceeded/));
});

/** Answers when its caller gives up. */
async function mute(bounded: Context): Promise<never> {
  await new Promise((resolve) => {
    bounded.signal.addEventListener("abort", resolve, { once: true });
  });
  throw new CodedError("deadline-exceeded", "context deadline exceeded");
}

test("List leaves out tasks whose shims do not answer", async () => {
  const { handlers, runtime } = setUp();
  runtime.tasks.set("c1", { state: async () => running });
  runtime.tasks.set("mute", { state: mute });
  runtime.tasks.set("gone", {
    state: async () => {
      throw notFound("gone");
    },
  });
  const { tasks } = await handlers.list(ctx, create(Tasks.method.list.input, {}));
  assert.deepEqual(
    tasks?.map((task) => task.id),
    ["c1"],
  );
});

test("Metrics are of the tasks that the filters name and that have some", async () => {
  const { handlers, runtime } = setUp();
  const data = { typeUrl: "io.containerd.cgroups.v2.Metrics", value: new Uint8Array([1]) };
  runtime.tasks.set("c1", { stats: async () => data });
  runtime.tasks.set("c2", { stats: async () => data });
  runtime.tasks.set("c3", {
    stats: async () => {
      throw notFound("stats");
    },
  });
  // One that does not answer keeps nobody waiting for the others.
  runtime.tasks.set("mute", { stats: mute });
  const ids = async (...filters: string[]): Promise<unknown> => {
    const answer = await handlers.metrics(ctx, create(Tasks.method.metrics.input, { filters }));
    return answer.metrics?.map((metric) => metric.id);
  };
  assert.deepEqual(await ids(), ["c1", "c2"]);
  assert.deepEqual(await ids("id==c2"), ["c2"]);
  assert.deepEqual(await ids("namespace==other"), []);
  await assert.rejects(ids("id=="), failsWith("invalid-argument", /./));
});

test("Exec and DeleteProcess need the id of an exec", async () => {
  const { handlers, runtime } = setUp();
  runtime.tasks.set("c1", {});
  const words = failsWith("invalid-argument", /exec id cannot be empty/);
  const { exec, deleteProcess } = Tasks.method;
  await assert.rejects(handlers.exec(ctx, create(exec.input, { containerId: "c1" })), words);
  await assert.rejects(
    handlers.deleteProcess(ctx, create(deleteProcess.input, { containerId: "c1" })),
    words,
  );
  await assert.rejects(
    handlers.exec(ctx, create(exec.input, { containerId: "c1", execId: "e1" })),
    failsWith("invalid-argument", /field spec/),
  );
});

test("Delete gives the exit, CloseIO closes stdin alone, Checkpoint is not there", async () => {
  const { handlers, runtime } = setUp();
  runtime.tasks.set("c1", {});
  const exit = await handlers.delete(ctx, create(Tasks.method.delete.input, { containerId: "c1" }));
  assert.deepEqual(
    [exit.pid, exit.exitStatus, exit.exitedAt],
    [42, 3, { seconds: 1n, nanos: 500_000_000 }],
  );
  // The fake has no closeStdin: calling it would throw.
  await handlers.closeIO(ctx, create(Tasks.method.closeIO.input, { containerId: "c1" }));
  assert.equal(handlers.checkpoint, undefined);
});
