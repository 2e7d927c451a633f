import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Container, ContainerInput } from "#core/containers/containers.ts";
import type { CreateTaskOptions, Task, TaskStatus } from "#core/runtime/runtime.ts";
import { Context } from "#pkg/context.ts";
import { CodedError, notFound } from "#pkg/errors.ts";
import { restartLabels } from "./policy.ts";
import { RestartMonitor } from "./restart-monitor.ts";

const uri = "file:///var/log/c1.log";

function container(
  id: string,
  labels: Readonly<Record<string, string>>,
  spec = '{"ociVersion":"1.0.2"}',
): Container {
  return {
    id,
    labels,
    image: "",
    runtime: { name: "io.containerd.runc.v2", options: undefined },
    spec: { typeUrl: "spec", value: Buffer.from(spec) },
    snapshotter: "overlayfs",
    snapshotKey: `${id}-root`,
    createdAt: 0n as Container["createdAt"], // -- any time
    updatedAt: 0n as Container["updatedAt"], // -- any time
    extensions: {},
    sandbox: "",
  };
}

interface FakeTask {
  status: TaskStatus;
  exitStatus: number;
  error?: Error;
  /** It has ended, and nobody was told yet. */
  isEnding?: boolean;
}

/** Containers and tasks by `namespace/id`; what is done is noted. */
class FakeDaemon {
  readonly containers = new Map<string, Container>();
  /** What a look finds in their place: it was some time ago. */
  listed: ReadonlyMap<string, Container> | undefined;
  readonly tasks = new Map<string, FakeTask>();
  readonly done: string[] = [];
  readonly created: CreateTaskOptions[] = [];

  monitor(): RestartMonitor {
    return new RestartMonitor(Context.background(), {
      namespaces: { list: async () => ["n1", "n2"].map((name) => ({ name, labels: {} })) },
      containers: {
        list: async (ctx) => this.#in(ctx),
        get: async (ctx, id) => {
          const found = this.containers.get(keyOf(ctx, id));
          if (!found) throw notFound(`container ${id}`);
          return found;
        },
        update: async (ctx, given, fields) => this.#update(ctx, given, fields ?? []),
      },
      snapshotters: new Map([["overlayfs", { mounts: async (_ctx, key) => [mountOf(key)] }]]),
      runtime: {
        get: async (ctx, id) => this.#task(keyOf(ctx, id)),
        create: async (ctx, id, options) => {
          this.created.push(options);
          this.done.push(`create ${keyOf(ctx, id)}`);
          this.tasks.set(keyOf(ctx, id), { status: "created", exitStatus: 0 });
          return this.#task(keyOf(ctx, id));
        },
        delete: async (ctx, id) => {
          if (this.tasks.get(keyOf(ctx, id))?.isEnding) throw new Error("it runs");
          if (!this.tasks.delete(keyOf(ctx, id))) throw notFound("task");
          this.done.push(`delete ${keyOf(ctx, id)}`);
          return { pid: 1, exitStatus: 137, exitedAt: 0n as never }; // -- nobody reads the time
        },
      },
      intervalMs: 1,
    });
  }

  #in(ctx: Context): Container[] {
    const found = [...(this.listed ?? this.containers)].filter(([key]) =>
      key.startsWith(`${ctx.namespace}/`),
    );
    return found.map(([, each]) => each);
  }

  #update(ctx: Context, given: ContainerInput, fields: readonly string[]): Container {
    this.done.push(`update ${keyOf(ctx, given.id)} ${fields.join()}`);
    const updated = container(given.id, given.labels);
    this.containers.set(keyOf(ctx, given.id), updated);
    return updated;
  }

  #task(key: string): Task {
    const task = this.tasks.get(key);
    if (!task) throw notFound("task");
    const { promise: ended, resolve } = Promise.withResolvers<never>();
    const fake: Pick<Task, "id" | "state" | "wait" | "kill" | "start"> = {
      id: key.slice(key.indexOf("/") + 1),
      state: async () => {
        if (task.error) throw task.error;
        const io = { stdin: "", stdout: "", stderr: "", terminal: false };
        return { id: key, pid: 1, ...io, ...task, exitedAt: undefined };
      },
      wait: async () => {
        if (task.status === "stopped") return { exitStatus: 0, exitedAt: 0n };
        if (!task.isEnding) return ended;
        await new Promise((done) => setImmediate(done));
        task.isEnding = false;
        return { exitStatus: 0, exitedAt: 0n };
      },
      kill: async (_ctx, { signal, all }) => {
        if (task.status === "stopped" || task.isEnding) throw notFound("process already finished");
        this.done.push(`kill ${signal} ${all ? "all" : "one"} ${key}`);
        resolve({ exitStatus: 137, exitedAt: 0n } as never); // -- nobody reads it
      },
      start: async () => {
        this.done.push(`start ${key}`);
        task.status = "running";
        return 1;
      },
    };
    return fake as Task; // -- the monitor calls no more
  }
}

function mountOf(key: string) {
  return { type: "bind", source: key, target: "", options: [] };
}

function keyOf(ctx: Context, id: string): string {
  return `${ctx.namespace}/${id}`;
}

async function look(daemon: FakeDaemon, monitor = daemon.monitor()): Promise<string[]> {
  daemon.done.length = 0;
  await monitor.scan();
  await monitor.idle();
  return [...daemon.done];
}

const running = { [restartLabels.status]: "running" };
const countLabel = `labels.${restartLabels.count}`;

suite("RestartMonitor", () => {
  test("scan() starts what has no task, in every namespace, with its mounts and log", async () => {
    const daemon = new FakeDaemon();
    const terminal = '{"ociVersion":"1.0.2","process":{"cwd":"/","terminal":true}}';
    const logged = { ...running, [restartLabels.logUri]: uri };
    daemon.containers.set("n1/c1", container("c1", logged, terminal));
    daemon.containers.set("n2/c1", container("c1", running));
    const done = await look(daemon);
    const started = (key: string): string[] => [
      `update ${key} ${countLabel}`,
      `create ${key}`,
      `start ${key}`,
    ];
    assert.deepEqual(done.toSorted(), [...started("n1/c1"), ...started("n2/c1")].toSorted());
    assert.equal(daemon.containers.get("n1/c1")?.labels[restartLabels.count], "1");
    const withLog = daemon.created.find(({ io }) => io.stdout !== "");
    assert.deepEqual(withLog?.io, { stdin: "", stdout: uri, stderr: uri, terminal: true });
    assert.deepEqual(withLog?.rootfs, [mountOf("c1-root")]);
    assert.deepEqual(await look(daemon), []);
  });

  test("scan() deletes a stopped task before it makes another", async () => {
    const daemon = new FakeDaemon();
    daemon.containers.set("n1/c1", container("c1", { ...running, [restartLabels.count]: "4" }));
    daemon.tasks.set("n1/c1", { status: "stopped", exitStatus: 1 });
    const done = await look(daemon);
    const steps = [`update n1/c1 ${countLabel}`, "delete n1/c1", "create n1/c1", "start n1/c1"];
    assert.deepEqual(done, steps);
    assert.equal(daemon.containers.get("n1/c1")?.labels[restartLabels.count], "5");
  });

  test("scan() kills every process of what should be stopped, and deletes the task", async () => {
    const daemon = new FakeDaemon();
    daemon.containers.set("n1/c1", container("c1", { [restartLabels.status]: "stopped" }));
    daemon.tasks.set("n1/c1", { status: "running", exitStatus: 0 });
    assert.deepEqual(await look(daemon), ["kill 9 all n1/c1", "delete n1/c1"]);
    assert.deepEqual(await look(daemon), []);
  });

  test("scan() deletes what ends by itself in that moment, once its end is told", async () => {
    const daemon = new FakeDaemon();
    daemon.containers.set("n1/c1", container("c1", { [restartLabels.status]: "stopped" }));
    daemon.tasks.set("n1/c1", { status: "running", exitStatus: 0, isEnding: true });
    assert.deepEqual(await look(daemon), ["delete n1/c1"]);
  });

  test("scan() touches nothing that is paused, unanswered or about to be started", async () => {
    const daemon = new FakeDaemon();
    const silent = new CodedError("deadline-exceeded", "shim does not answer");
    daemon.tasks.set("n1/paused", { status: "paused", exitStatus: 0 });
    daemon.tasks.set("n1/pausing", { status: "pausing", exitStatus: 0 });
    daemon.tasks.set("n1/created", { status: "created", exitStatus: 0 });
    daemon.tasks.set("n1/silent", { status: "running", exitStatus: 0, error: silent });
    for (const key of daemon.tasks.keys()) {
      daemon.containers.set(key, container(key.slice(3), running));
    }
    const monitor = daemon.monitor();
    assert.deepEqual(await look(daemon, monitor), []);
    assert.deepEqual(await look(daemon, monitor), []);
  });

  test("scan() goes by what is on record when its turn comes", async () => {
    const daemon = new FakeDaemon();
    const listed = ["gone", "stopped", "unasked"].map((id) => container(id, running));
    daemon.listed = new Map(listed.map((each) => [`n1/${each.id}`, each]));
    daemon.containers.set(
      "n1/stopped",
      container("stopped", { [restartLabels.status]: "stopped" }),
    );
    daemon.containers.set("n1/unasked", container("unasked", {}));
    assert.deepEqual(await look(daemon), []);
    daemon.tasks.set("n1/gone", { status: "stopped", exitStatus: 0 });
    daemon.tasks.set("n1/unasked", { status: "stopped", exitStatus: 0 });
    daemon.tasks.set("n1/stopped", { status: "running", exitStatus: 0 });
    assert.deepEqual(await look(daemon), ["kill 9 all n1/stopped", "delete n1/stopped"]);
  });

  test("scan() leaves CRI's containers to the kubelet", async () => {
    const daemon = new FakeDaemon();
    for (const kind of ["sandbox", "container"]) {
      const labels = { ...running, "io.cri-containerd.kind": kind };
      daemon.containers.set(`n1/${kind}`, container(kind, labels));
    }
    assert.deepEqual(await look(daemon), []);
  });

  test("scan() counts anew for a container that was made again by the same id", async (t) => {
    let nowMs = 0;
    t.mock.method(performance, "now", () => nowMs);
    const daemon = new FakeDaemon();
    const monitor = daemon.monitor();
    const add = (): void => {
      daemon.containers.set("n1/c1", container("c1", running));
      daemon.tasks.set("n1/c1", { status: "created", exitStatus: 0 });
    };
    add();
    assert.deepEqual(await look(daemon, monitor), []);
    daemon.containers.clear();
    daemon.tasks.clear();
    assert.deepEqual(await look(daemon, monitor), []);
    nowMs = 20_000;
    add();
    assert.deepEqual(await look(daemon, monitor), []);
    nowMs = 40_000;
    assert.equal((await look(daemon, monitor)).at(-1), "start n1/c1");
  });

  test("scan() starts nothing whose log or policy does not parse, and goes on", async () => {
    const daemon = new FakeDaemon();
    const labels = (key: string, value: string) => ({ ...running, [key]: value });
    daemon.containers.set("n1/a", container("a", labels(restartLabels.logUri, "no uri")));
    daemon.containers.set("n1/b", container("b", labels(restartLabels.policy, "sometimes")));
    daemon.containers.set("n1/c", container("c", running, "{"));
    daemon.containers.set("n1/d", container("d", running));
    const done = await look(daemon);
    assert.deepEqual(done, [`update n1/d ${countLabel}`, "create n1/d", "start n1/d"]);
  });

  test("reset() forgets an explicit stop for `always` alone", async () => {
    const daemon = new FakeDaemon();
    for (const policy of ["", "always", "unless-stopped", "on-failure"]) {
      const stopped = { [restartLabels.policy]: policy, [restartLabels.explicitlyStopped]: "1" };
      daemon.containers.set(`n1/c${policy}`, container(`c${policy}`, { ...running, ...stopped }));
    }
    await daemon.monitor().reset();
    const field = `labels.${restartLabels.explicitlyStopped}`;
    assert.deepEqual(daemon.done, [`update n1/c ${field}`, `update n1/calways ${field}`]);
    const { labels } = daemon.containers.get("n1/calways") ?? container("", {});
    assert.equal(labels[restartLabels.explicitlyStopped], "false");
  });
});
