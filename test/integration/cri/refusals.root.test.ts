import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  NamespaceMode,
  SecurityProfile_ProfileType as Profile,
} from "#api/cri/runtime/v1/config_pb.ts";
import { daemonKind } from "#test/support/daemon.ts";
import { pauseImage } from "#test/support/images.ts";
import { run } from "#test/support/command.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  assertGone,
  assertNoContainer,
  importImage,
  makeNetworkNamespace,
  needsOfPods,
  type PodConfig,
  podConfig,
  podId,
  podSandbox,
  type Pods,
  removePod,
  startPods,
} from "./pods.ts";

const isOurs = daemonKind() === "ours";

/** Either the creation is refused, or the start; nothing is left of it, and the daemon goes on. */
async function assertRefused(
  pods: Pods,
  id: string,
  config: PodConfig,
  { more = {}, words }: { readonly more?: object; readonly words?: RegExp } = {},
): Promise<void> {
  const { ctx, controller } = pods;
  await assert.rejects(
    (async () => {
      await controller.create(ctx, podSandbox(id, config, { ...more }));
      await controller.start(ctx, id);
    })(),
    (error: Error) => {
      if (isOurs && words) assert.match(error.message, words);
      return true;
    },
  );
  await controller.shutdown(ctx, id);
  // Go's daemon leaves the snapshot of a start that failed to a collection.
  await (isOurs ? assertGone : assertNoContainer)(pods, id);
}

async function left({ daemon }: Pods): Promise<string[]> {
  const found: string[] = [];
  for (const top of [daemon.root, daemon.state]) {
    const path = join(top, "io.containerd.grpc.v1.cri/sandboxes");
    found.push(...(await readdir(path).catch(() => [])));
  }
  return found;
}

function security(
  room: Room,
  fields: NonNullable<PodConfig["linux"]>["securityContext"],
): PodConfig {
  return podConfig(room, { linux: { securityContext: fields } });
}

roomTest(
  "what cannot become a pod is refused by Go's daemon and ours, and leaves nothing",
  async (room) => {
    const pods = await startPods(room);
    const fifo = join(room.dir, "fifo");
    await run(["mkfifo", fifo]);
    const bad = join(room.dir, "bad.json");
    await writeFile(bad, '{"defaultAction": 5}');
    const refused: readonly (readonly [string, PodConfig, RegExp, object?])[] = [
      ["hostname", podConfig(room, { hostname: "h".repeat(300) }), /hostname .*longer than 64/],
      [
        "sysctl",
        podConfig(room, { linux: { sysctls: { "no.such.sysctl": "1" } } }),
        /no\.such\.sysctl|no\/such|sysctl/,
      ],
      [
        "host-sysctl",
        podConfig(room, { linux: { sysctls: { "kernel.core_pattern": "|/bin/evil" } } }),
        /kernel|sysctl/,
      ],
      [
        "netns-none",
        podConfig(room),
        /network namespace path .*none" is not/,
        { NetNSPath: join(room.dir, "none") },
      ],
      ["netns-file", podConfig(room), /is not a namespace/, { NetNSPath: "/etc/hostname" }],
      [
        "seccomp-none",
        security(room, {
          seccomp: { profileType: Profile.Localhost, localhostRef: join(room.dir, "none") },
        }),
        /cannot load seccomp profile/,
      ],
      [
        "seccomp-bad",
        security(room, { seccomp: { profileType: Profile.Localhost, localhostRef: bad } }),
        /decoding seccomp profile/,
      ],
      [
        "seccomp-word",
        security(room, { seccompProfilePath: "strict" }),
        /invalid profile "strict"/,
      ],
      ["user", security(room, { runAsUser: { value: -1n } }), /run_as_user "-1"/],
      ["group", security(room, { runAsGroup: { value: 5n } }), /is specified without user/],
      [
        "userns",
        security(room, { namespaceOptions: { usernsOptions: { mode: NamespaceMode.POD } } }),
        /without UID and GID mappings/,
      ],
      [
        "handler",
        podConfig(room),
        /no runtime for "none" is configured/,
        { RuntimeHandler: "none" },
      ],
      [
        "selinux",
        security(room, { selinuxOptions: { level: "high" } }),
        /the format of 'level' "high" is not correct/,
      ],
    ];
    const corePattern = await readFile("/proc/sys/kernel/core_pattern", "utf8");
    for (const [name, config, words, more = {}] of refused) {
      await assertRefused(pods, podId(room, name), config, { more, words });
    }
    assert.equal(await readFile("/proc/sys/kernel/core_pattern", "utf8"), corePattern);
    assert.deepEqual(await left(pods), []);
    // And afterwards a good one starts.
    const id = podId(room);
    await pods.controller.create(pods.ctx, podSandbox(id, podConfig(room)));
    await pods.controller.start(pods.ctx, id);
    await removePod(pods, id);
  },
  { needs: needsOfPods, timeoutMs: 180_000 },
);

roomTest(
  "an image without a command makes no pod",
  async (room) => {
    const pods = await startPods(room, { image: pauseImage({ Entrypoint: [] }) });
    await assertRefused(pods, podId(room), podConfig(room), { words: /empty entrypoint and cmd/ });
    assert.deepEqual(await left(pods), []);
    await importImage(room, pods.daemon, pauseImage({ User: "nobody" }), pods.imageName);
    await assertRefused(pods, podId(room), podConfig(room), { words: /no users found: "nobody"/ });
    assert.deepEqual(await left(pods), []);
  },
  { needs: needsOfPods },
);

roomTest(
  "names that climb, ids that are none, and paths to what blocks are refused at once",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, daemon } = pods;
    const config = podConfig(room);
    for (const id of ["", "..", "../../state", "a/b", "a".repeat(77), "a\0b"]) {
      await assert.rejects(controller.create(ctx, podSandbox(id, config)), {
        code: "invalid-argument",
        message: /^invalid sandbox ID: /,
      });
      await controller.shutdown(ctx, id);
    }
    const id = podId(room);
    await assert.rejects(controller.create(ctx, podSandbox(id, config, { ID: "another" })), {
      code: "invalid-argument",
    });
    const climbing: PodConfig = { ...config, linux: { cgroupParent: "/../../../tmp" } };
    await assert.rejects(controller.create(ctx, podSandbox(id, climbing)), { message: /climbs/ });
    await assert.rejects(controller.create(ctx, { ...podSandbox(id, config), extensions: {} }), {
      code: "not-found",
      message: `failed to get sandbox "${id}" metadata: extension metadata: not found`,
    });
    const fifo = join(room.dir, "fifo");
    await run(["mkfifo", fifo]);
    await controller.create(ctx, podSandbox(id, config, { NetNSPath: fifo }));
    await assert.rejects(controller.start(ctx, id), {
      code: "failed-precondition",
      message: /fifo" is not a namespace/,
    });
    // A namespace of another kind is the runtime's to refuse.
    await controller.shutdown(ctx, id);
    await controller.create(ctx, podSandbox(id, config, { NetNSPath: "/proc/self/ns/uts" }));
    await assert.rejects(controller.start(ctx, id));
    await controller.shutdown(ctx, id);
    await assertGone(pods, id);
    assert.deepEqual(await left(pods), []);
    assert.ok((await readdir(daemon.root)).length > 0);
  },
  { needs: ["runc"] },
);

roomTest(
  "a huge configuration is a pod's own matter",
  async (room) => {
    const pods = await startPods(room);
    const id = podId(room);
    const many = Array.from({ length: 20_000 }, (_, i): [string, string] => {
      return [`annotation-${i}`, "x".repeat(100)];
    });
    const config = podConfig(room, {
      annotations: Object.fromEntries(many),
      dnsConfig: { servers: [], searches: Array.from({ length: 1_000 }, (_, i) => `d${i}`) },
    });
    await pods.controller.create(pods.ctx, podSandbox(id, config));
    await pods.controller.start(pods.ctx, id);
    const { info } = await pods.controller.status(pods.ctx, id, { verbose: true });
    assert.ok((info["info"] ?? "").length > 2_000_000);
    await removePod(pods, id);
    // A label is bounded, and that is said.
    await assertRefused(pods, id, podConfig(room, { labels: { long: "x".repeat(5_000) } }), {
      words: /label key and value length/,
    });
  },
  { needs: needsOfPods },
);

roomTest(
  "whose container or snapshot an id is already, is left alone",
  async (room) => {
    const pods = await startPods(room);
    const { ctx, controller, containers, snapshots } = pods;
    const id = podId(room);
    const spec = { typeUrl: "a type", value: Buffer.from("{}") };
    const runtime = { name: "io.containerd.runc.v2" };
    const record = { id, runtime, spec, labels: { mine: "yes" } };
    await containers.create(ctx, { container: record });
    const kept = { "containerd.io/gc.root": "yes" };
    const other = podId(room, "b");
    await snapshots.prepare(ctx, { snapshotter: "overlayfs", key: other, labels: kept });
    const netns = await makeNetworkNamespace(room);
    for (const name of ["pod", "b"]) {
      const taken = podId(room, name);
      const sandbox = podSandbox(taken, podConfig(room), { NetNSPath: netns });
      await controller.create(ctx, sandbox);
      await assert.rejects(controller.start(ctx, taken), { code: "already-exists" });
      await controller.shutdown(ctx, taken);
    }
    assert.equal((await containers.get(ctx, { id })).container?.labels["mine"], "yes");
    await snapshots.stat(ctx, { snapshotter: "overlayfs", key: other });
    await containers.delete(ctx, { id });
    await snapshots.remove(ctx, { snapshotter: "overlayfs", key: other });
  },
  { needs: needsOfPods },
);
