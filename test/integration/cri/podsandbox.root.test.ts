import assert from "node:assert/strict";
import { readFileSync, readlinkSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { PodSandboxConfigSchema } from "#api/cri/runtime/v1/config_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { labels } from "#cri/annotations.ts";
import { daemonKind } from "#test/support/daemon.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import {
  assertGone,
  configOf,
  containerOf,
  makeNetworkNamespace,
  needsOfPods,
  podConfig,
  podId,
  podNamespace,
  podSandbox,
  removePod,
  specOf,
  startPods,
} from "./pods.ts";

const isOurs = daemonKind() === "ours";
const isOld = !isOurs && process.env["CONTAINERD_TEST_GO"] === undefined;

function namespaceOf(pid: number, kind: string): string {
  return readlinkSync(`/proc/${pid}/ns/${kind}`);
}

roomTest(
  "a pod lives: it is created, started, stopped, waited for and shut down",
  async (room) => {
    const pods = await startPods(room);
    const { ctx, controller, daemon } = pods;
    const id = podId(room);
    const netns = await makeNetworkNamespace(room);
    const config = podConfig(room, {
      dnsConfig: { servers: ["10.0.0.10"], searches: ["shop.svc", "svc"], options: ["ndots:5"] },
      annotations: { note: "of the pod" },
    });
    await controller.create(ctx, podSandbox(id, config, { NetNSPath: netns }));
    assert.equal((await controller.status(ctx, id)).state, "SANDBOX_UNKNOWN");

    const started = await controller.start(ctx, id);
    const { pid } = started;
    assert.ok(pid > 0);
    assert.deepEqual(started.labels, {
      // Before 2.4, those of the container were left out.
      ...(isOld ? {} : { app: "web", [labels.kind]: "sandbox" }),
      oci_runtime_type: "io.containerd.runc.v2",
      selinux_label: "",
    });
    const status = await controller.status(ctx, id);
    assert.deepEqual([status.state, status.pid], ["SANDBOX_READY", pid]);
    assert.equal(status.createdAt, started.createdAt);

    // Its namespaces, and who it is in them.
    assert.equal(BigInt(namespaceOf(pid, "net").slice(5, -1)), BigInt(statSync(netns).ino));
    for (const kind of ["ipc", "uts", "pid", "mnt"]) {
      assert.notEqual(namespaceOf(pid, kind), namespaceOf(process.pid, kind));
    }
    assert.match(readFileSync(`/proc/${pid}/status`, "utf8"), /^Uid:\t65535\t65535/m);
    const mounts = readFileSync(`/proc/${pid}/mountinfo`, "utf8");
    assert.match(mounts, / \/dev\/shm ro,nosuid,nodev,noexec[, ].* tmpfs shm .*size=65536k/);
    assert.match(mounts, / \/etc\/resolv\.conf ro,nosuid,nodev,noexec/);

    const files = join(daemon.root, "io.containerd.grpc.v1.cri/sandboxes", id);
    assert.equal(await readFile(join(files, "hostname"), "utf8"), "web-0\n");
    assert.equal(
      await readFile(join(files, "resolv.conf"), "utf8"),
      "search shop.svc svc\nnameserver 10.0.0.10\noptions ndots:5\n",
    );
    assert.deepEqual(await readFile(join(files, "hosts")), await readFile("/etc/hosts"));

    // Its container on record.
    const container = await containerOf(pods, id);
    assert.equal(container.image, pods.imageName);
    assert.equal(container.snapshotKey, id);
    assert.deepEqual(container.labels, { app: "web", [labels.kind]: "sandbox" });
    const kept = configOf(container.extensions[labels.sandboxMetadata]);
    assert.equal(kept.hostname, "web-0");
    assert.deepEqual(kept.dnsConfig?.options, ["ndots:5"]);
    const spec = await specOf(pods, id);
    assert.equal(spec.hostname, "web-0");
    assert.equal(spec.linux?.cgroupsPath, `/${room.namespace}/${id}`);
    assert.equal(spec.annotations?.["io.kubernetes.cri.sandbox-id"], id);

    const exited = controller.wait(ctx, id);
    await controller.stop(ctx, id, { timeoutMs: 10_000 });
    assert.equal((await exited).exitStatus, 137);
    const ended = await controller.status(ctx, id);
    assert.deepEqual([ended.state, ended.pid], ["SANDBOX_NOTREADY", 0]);
    assert.equal(ended.exitedAt, (await exited).exitedAt);
    // Again, for nothing.
    await controller.stop(ctx, id);
    await controller.shutdown(ctx, id);
    await assertGone(pods, id);
    await assert.rejects(controller.status(ctx, id), { code: "not-found" });
  },
  { needs: needsOfPods },
);

roomTest(
  "what is not there: some calls say so, and a shutdown has nothing to do",
  async (room) => {
    const pods = await startPods(room, { imageAt: "nowhere" });
    const { ctx, controller } = pods;
    await assert.rejects(controller.start(ctx, "none"), { code: "not-found" });
    await assert.rejects(controller.stop(ctx, "none"), { code: "not-found" });
    await assert.rejects(controller.status(ctx, "none"), {
      code: "not-found",
      message: 'unable to find sandbox "none": not found',
    });
    await assert.rejects(controller.wait(ctx, "none"), {
      code: "unknown",
      message: 'failed to get exit channel. "none"',
    });
    await controller.shutdown(ctx, "none");
    const id = podId(room);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await assert.rejects(controller.start(ctx, id), (error: Error) => {
      // Ours asks the registry before it gives up.
      assert.match(error.message, isOurs ? /failed to pull image/ : /failed to get sandbox image/);
      return true;
    });
    await controller.stop(ctx, id);
    await controller.shutdown(ctx, id);
    await assertGone(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "a pod that is removed while it runs is ended first",
  async (room) => {
    const pods = await startPods(room);
    const { ctx, controller } = pods;
    const id = podId(room);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await controller.start(ctx, id);
    const exited = controller.wait(ctx, id);
    await controller.shutdown(ctx, id);
    assert.equal((await exited).exitStatus, 137);
    await assertGone(pods, id);
    // The id is free again.
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await controller.start(ctx, id);
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "creation, start and an end that somebody waits for are told as events, and the task's too",
  async (room) => {
    const pods = await startPods(room);
    const { ctx, controller, events } = pods;
    const id = podId(room);
    const topics: string[] = [];
    let isHeard = false;
    const ended = new AbortController();
    room.resources.defer(() => ended.abort());
    const heard = (async () => {
      const listening = ctx.withSignal(ended.signal);
      for await (const { topic } of events.subscribe(listening, { filters: [] })) {
        if (topic === "/test/ready") isHeard = true;
        if (/^\/(sandboxes|tasks|containers)\//.test(topic)) topics.push(topic);
      }
    })();
    heard.catch(() => undefined); // -- the end of the subscription is ours
    await until("the subscription is there", async () => {
      const event = { typeUrl: "test", value: new Uint8Array() };
      await events.publish(ctx, { topic: "/test/ready", event });
      return isHeard;
    });
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await controller.start(ctx, id);
    const exited = controller.wait(ctx, id);
    await controller.stop(ctx, id);
    await exited;
    await controller.shutdown(ctx, id);
    // Each in the order of whoever tells it: a shim's events come on a way of their own.
    const own = ["/sandboxes/create", "/containers/create", "/sandboxes/start", "/sandboxes/exit"];
    own.push("/containers/delete");
    // Go's shim sometimes ends before it has told the last.
    const last = isOurs ? ["/tasks/delete"] : [];
    const shims = ["/tasks/create", "/tasks/start", "/tasks/exit", ...last];
    const heardOf = (expected: readonly string[]): string[] =>
      topics.filter((topic) => expected.includes(topic));
    for (const expected of [own, shims]) {
      await until("all is told", () => heardOf(expected).length >= expected.length).catch(
        (error: unknown) => {
          throw new Error(`${String(error)}: ${topics.join(" ")}`, { cause: error });
        },
      );
      assert.deepEqual(heardOf(expected), expected);
    }
  },
  { needs: needsOfPods },
);

roomTest(
  "a pod is counted by the cgroup above its containers",
  async (room) => {
    const pods = await startPods(room);
    const { ctx, controller } = pods;
    const [id, without, gone] = ["pod", "without", "gone"].map((name) => podId(room, name));
    assert.ok(id !== undefined && without !== undefined && gone !== undefined);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await controller.create(
      ctx,
      podSandbox(without, podConfig(room, { linux: { cgroupParent: "" } })),
    );
    const parent = `/${room.namespace}-none`;
    await controller.create(
      ctx,
      podSandbox(gone, podConfig(room, { linux: { cgroupParent: parent } })),
    );
    await controller.start(ctx, id);
    if (!isOld) {
      const metric = await controller.metrics(ctx, id);
      assert.equal(metric?.id, id);
      assert.match(metric?.data?.typeUrl ?? "", /^io\.containerd\.cgroups\.v[12]\.Metrics$/);
      assert.ok((metric?.data?.value.length ?? 0) > 50);
      await assert.rejects(controller.metrics(ctx, without), {
        message: `sandbox "${without}" has no cgroup parent`,
      });
      await assert.rejects(controller.metrics(ctx, gone), {
        message: /^failed to load sandbox cgroup "\/.*-none": /,
      });
      await assert.rejects(controller.metrics(ctx, "none"), { code: "not-found" });
    }
    for (const each of [without, gone]) await controller.shutdown(ctx, each);
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "an update has nothing to tell a pause container, and any platform is the host's",
  async (room) => {
    const pods = await startPods(room, { imageAt: "nowhere" });
    const { ctx, controller } = pods;
    const id = podId(room);
    const sandbox = podSandbox(id, podConfig(room));
    await controller.create(ctx, sandbox);
    await controller.update(ctx, id, sandbox, ["extensions"]);
    if (isOurs) assert.equal((await controller.platform(ctx, id)).os, "linux");
    await controller.shutdown(ctx, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "the image that is missing is fetched, pinned, and unpacked for pods alone",
  async (room) => {
    const pods = await startPods(room, { kind: "ours", imageAt: "registry" });
    const { ctx, controller, daemon, imageName } = pods;
    const ids = ["a", "b", "c"].map((name) => podId(room, name));
    // All at once, as after a node has come up.
    await Promise.all(
      ids.map(async (id) => {
        await controller.create(ctx, podSandbox(id, podConfig(room)));
        await controller.start(ctx, id);
      }),
    );
    const listed = await daemon.ctrOk(["-n", podNamespace, "images", "list"]);
    const line = listed.split("\n").find((each) => each.startsWith(imageName)) ?? "";
    assert.match(line, /io\.cri-containerd\.image=managed/);
    assert.match(line, /io\.cri-containerd\.pinned=pinned/);
    // A collection finds nothing that a pod stands on.
    await daemon.ctrOk(["-n", podNamespace, "content", "prune", "references"]);
    for (const id of ids) {
      assert.equal((await controller.status(ctx, id)).state, "SANDBOX_READY");
      await removePod(pods, id);
    }
  },
  { needs: ["runc"] },
);

roomTest(
  "a pod of a runtime without an image of its own is told so, and one of options alone starts",
  async (room) => {
    const config = `
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.imageless]
  runtime_type = "io.containerd.runc.v2"
  disable_pause_image_pull = true`;
    const pods = await startPods(room, { kind: "ours", imageAt: "registry", config });
    const { ctx, controller } = pods;
    const id = podId(room);
    await controller.create(ctx, podSandbox(id, podConfig(room), { RuntimeHandler: "imageless" }));
    await assert.rejects(controller.start(ctx, id), {
      code: "not-found",
      message: /failed to get sandbox image/,
    });
    await controller.shutdown(ctx, id);
    const message = create(PodSandboxConfigSchema, podConfig(room));
    const value = toBinary(PodSandboxConfigSchema, message);
    const netnsPath = await makeNetworkNamespace(room);
    const runc = create(OptionsSchema, { binaryName: "runc" });
    const runtimeOptions = {
      typeUrl: OptionsSchema.typeName,
      value: toBinary(OptionsSchema, runc),
    };
    const sandbox = podSandbox(id, {});
    await controller.create(
      ctx,
      {
        ...sandbox,
        extensions: {},
        runtime: { name: "io.containerd.runc.v2", options: runtimeOptions },
      },
      { options: { typeUrl: PodSandboxConfigSchema.typeName, value }, netnsPath },
    );
    const { pid } = await controller.start(ctx, id);
    assert.equal(BigInt(namespaceOf(pid, "net").slice(5, -1)), BigInt(statSync(netnsPath).ino));
    const { info } = await controller.status(ctx, id, { verbose: true });
    const shown = JSON.parse(info["info"] ?? "") as Record<string, Record<string, unknown>>;
    assert.deepEqual(shown["runtimeOptions"], { binary_name: "runc" });
    assert.equal(shown["sandboxMetadata"]?.["Version"], "v1");
    await removePod(pods, id);
    await assertGone(pods, id);
  },
  { needs: ["runc"] },
);

roomTest(
  "two starts of one pod make one, a stop in between waits its turn, and waits end with the pod",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller } = pods;
    const id = podId(room);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    const never = controller.wait(ctx, id);
    await controller.shutdown(ctx, id);
    assert.equal((await never).exitStatus, 255);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await assert.rejects(controller.create(ctx, podSandbox(id, podConfig(room))), {
      code: "already-exists",
    });
    const elsewhere = ctx.withNamespace(room.namespace);
    await assert.rejects(controller.status(elsewhere, id), { code: "not-found" });
    await assert.rejects(controller.create(elsewhere, podSandbox(id, podConfig(room))), {
      code: "already-exists",
    });
    const starts = await Promise.allSettled([1, 2, 3].map(() => controller.start(ctx, id)));
    assert.equal(starts.filter(({ status }) => status === "fulfilled").length, 1);
    const shutdowns = [1, 2, 3].map(() => controller.shutdown(ctx, id));
    await Promise.all(shutdowns);
    await assertGone(pods, id);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    const starting = controller.start(ctx, id);
    const stopped = controller.stop(ctx, id).then(
      () => "stopped",
      (error: Error) => error.message,
    );
    await starting;
    assert.match(await stopped, /^stopped$|is being started/);
    // A caller who leaves in the middle does not keep a removal from its end.
    const leaving = new AbortController();
    // It may be done before it is left.
    const left = controller.shutdown(ctx.withSignal(leaving.signal), id).catch(() => undefined);
    const isReady = async (): Promise<boolean> =>
      controller.status(ctx, id).then(
        ({ state }) => state === "SANDBOX_READY",
        () => false,
      );
    await until("the removal has begun", async () => !(await isReady()));
    leaving.abort();
    await left;
    await until("the pod is gone", async () =>
      controller.status(ctx, id).then(
        () => false,
        () => true,
      ),
    );
    await assertGone(pods, id);
  },
  { needs: ["runc"] },
);
