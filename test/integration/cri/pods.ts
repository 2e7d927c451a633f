import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type LinuxPodSandboxConfigSchema,
  type PodSandboxConfig,
  PodSandboxConfigSchema,
} from "#api/cri/runtime/v1/config_pb.ts";
import type { Container as ContainerMessage } from "#api/services/containers/v1/containers_pb.ts";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Events } from "#api/services/events/v1/events_pb.ts";
import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { GrpcSandboxController } from "#core/sandbox/controller-proxy.ts";
import type { SandboxInput } from "#core/sandbox/sandbox.ts";
import { GrpcSandboxStore } from "#core/sandbox/store-proxy.ts";
import { fromGoJson, toGoJson } from "#cri/go-json.ts";
import { metadataTypeUrl } from "#cri/sandbox-metadata-convert.ts";
import type { Any } from "#pkg/any.ts";
import { Context } from "#pkg/context.ts";
import { formatLossless } from "#pkg/lossless-json.ts";
import { parseSpec } from "#pkg/oci/parse-spec.ts";
import type { OciSpec } from "#pkg/oci/runtime-spec.ts";
import { MS } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { run } from "#test/support/command.ts";
import { type Daemon, type DaemonKind, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import { type Image, ociArchive, pauseImage } from "#test/support/images.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import type { Need } from "#test/support/needs.ts";
import { until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

/** Fields of the message alone, and not a whole one. */
type Init<M> = Extract<M, { $typeName?: never }>;
type LinuxPodConfig = Init<MessageInitShape<typeof LinuxPodSandboxConfigSchema>>;
export type PodConfig = Omit<Init<MessageInitShape<typeof PodSandboxConfigSchema>>, "linux"> & {
  linux?: LinuxPodConfig;
};

/** The one that Kubernetes uses; Go's controller waits for the ends of pods in no other. */
export const podNamespace = "k8s.io";

/** A daemon that makes pods, and clients of what a test looks at. */
export interface Pods {
  readonly daemon: Daemon;
  /** Of pods, as configured. */
  readonly imageName: string;
  readonly ctx: Context;
  readonly controller: GrpcSandboxController;
  readonly store: GrpcSandboxStore;
  readonly containers: Client<typeof Containers>;
  readonly tasks: Client<typeof Tasks>;
  readonly snapshots: Client<typeof Snapshots>;
  readonly events: Client<typeof Events>;
}

export interface PodsOptions {
  readonly kind?: DaemonKind;
  readonly image?: Image;
  /** Where the image is: on record, or where its name says; as well is what 2.1 needs. */
  readonly imageAt?: "both" | "registry" | "nowhere";
  /** Read at each start of the daemon. */
  readonly env?: Readonly<Record<string, string>>;
  /** More of the daemon's configuration. */
  readonly config?: string;
}

/** What tests that run on Go's daemon too need of the machine. */
export const needsOfPods: readonly Need[] = daemonKind() === "go" ? ["runc", "sid"] : ["runc"];

/** The Go daemon that makes pods; older ones have none but CRI's own. */
export function goProgram(): string {
  const newer = process.env["CONTAINERD_TEST_GO"];
  return newer === undefined ? newerProgram("sid", "containerd") : join(newer, "containerd");
}

export async function startPods(room: Room, options: PodsOptions = {}): Promise<Pods> {
  const kind = options.kind ?? daemonKind();
  const { image = pauseImage(), imageAt = "both" } = options;
  const served = imageAt === "nowhere" ? [] : [{ repository: "pause", tag: "1", image }];
  const registry = room.resources.use(await startRegistry(served));
  const imageName = `${registry.host}/pause:1`;
  // Go's daemon takes the shim beside it where there is one.
  const shims = kind === "go" ? `${dirname(newerProgram("sid", "containerd-shim-runc-v2"))}:` : "";
  const daemon = await startDaemon(room, {
    kind,
    ...(options.env && { env: options.env }),
    ...(kind === "go" && {
      goProgram: goProgram(),
      env: { PATH: `${dirname(goProgram())}:${shims}${systemPath}` },
    }),
    config: `
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = ${JSON.stringify(imageName)}
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
${options.config ?? ""}`,
  });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const pods: Pods = {
    daemon,
    imageName,
    ctx: Context.background().withNamespace(podNamespace),
    controller: new GrpcSandboxController(transport, "podsandbox"),
    store: new GrpcSandboxStore(transport),
    containers: createClient(Containers, transport),
    tasks: createClient(Tasks, transport),
    snapshots: createClient(Snapshots, transport),
    events: createClient(Events, transport),
  };
  if (imageAt === "both") await importImage(room, daemon, image, imageName);
  return pods;
}

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export async function importImage(
  room: Room,
  daemon: Daemon,
  image: Image,
  name: string,
): Promise<void> {
  const archive = join(room.dir, `image-${randomBytes(4).toString("hex")}.tar`);
  await writeFile(archive, ociArchive(image, name));
  await daemon.ctrOk(["-n", podNamespace, "images", "import", archive]);
}

/** In `/run/netns`, with the room's name so that one that is left is seen. Removed with the room. */
export async function makeNetworkNamespace(room: Room, what = "net"): Promise<string> {
  const name = `${room.namespace}-${what}`;
  const output = await run(["ip", "netns", "add", name]);
  assert.equal(output.code, 0, output.stderr);
  room.resources.defer(async () => {
    await run(["ip", "netns", "delete", name]);
  });
  return `/run/netns/${name}`;
}

/** One that belongs to a user namespace of that mapping, which nothing else keeps. */
export async function makeOwnedNetwork(
  room: Room,
  mapping: { readonly containerId: number; readonly hostId: number; readonly length: number },
): Promise<{ readonly path: string; readonly owner: string }> {
  const path = `/run/netns/${room.namespace}-owned`;
  const child = spawn("unshare", ["--user", "--net", "sleep", "1000"], { stdio: "ignore" });
  const own = readlinkSync("/proc/self/ns/user");
  const proc = `/proc/${child.pid}`;
  await until("a user namespace", () => readlinkSync(`${proc}/ns/user`) !== own);
  const line = `${mapping.containerId} ${mapping.hostId} ${mapping.length}\n`;
  await writeFile(`${proc}/uid_map`, line);
  await writeFile(`${proc}/gid_map`, line);
  await until(
    "a network",
    () => readlinkSync(`${proc}/ns/net`) !== readlinkSync("/proc/self/ns/net"),
  );
  const owner = readlinkSync(`${proc}/ns/user`);
  await mkdir("/run/netns", { recursive: true });
  await writeFile(path, "");
  linux.mount(path, { source: `${proc}/ns/net`, flags: MS.BIND });
  room.resources.defer(async () => {
    linux.umount2(path, 0);
    await rm(path);
  });
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  return { path, owner };
}

/** Ids are the machine's, as cgroups are: runtimes keep their state by namespace and id. */
export function podId(room: Room, name = "pod"): string {
  return `${room.namespace}-${name}`;
}

/** A configuration whose cgroups are the room's. */
export function podConfig(room: Room, more: PodConfig = {}): PodConfig {
  return {
    metadata: { name: "web", uid: "uid-1", namespace: "shop", attempt: 2 },
    hostname: "web-0",
    logDirectory: "/var/log/pods/shop_web_uid-1",
    labels: { app: "web" },
    annotations: { note: "of the pod" },
    ...more,
    linux: { cgroupParent: `/${room.namespace}`, ...more.linux },
  };
}

/** The extension in which CRI gives what it knows of a pod. */
export function metadataExtension(
  id: string,
  config: PodConfig,
  more: Readonly<Record<string, unknown>> = {},
): Any {
  const json = toGoJson(PodSandboxConfigSchema, create(PodSandboxConfigSchema, config));
  const metadata = { ID: id, Name: `web_shop_uid-1_2`, Config: json, ...more };
  const value = Buffer.from(formatLossless({ Version: "v1", Metadata: metadata }));
  return { typeUrl: metadataTypeUrl, value };
}

export function podSandbox(
  id: string,
  config: PodConfig,
  more: Readonly<Record<string, unknown>> = {},
): SandboxInput {
  return {
    id,
    labels: { name: "web_shop_uid-1_2" },
    runtime: { name: "io.containerd.runc.v2", options: undefined },
    spec: undefined,
    sandboxer: "podsandbox",
    extensions: { metadata: metadataExtension(id, config, more) },
  };
}

/** Creates and starts one; its pid. */
export async function startPod(
  { controller, ctx }: Pods,
  id: string,
  config: PodConfig,
  more: Readonly<Record<string, unknown>> = {},
): Promise<number> {
  await controller.create(ctx, podSandbox(id, config, more));
  const { pid } = await controller.start(ctx, id);
  return pid;
}

export async function removePod({ controller, ctx }: Pods, id: string): Promise<void> {
  await controller.stop(ctx, id);
  await controller.shutdown(ctx, id);
}

export async function containerOf(pods: Pods, id: string): Promise<ContainerMessage> {
  const { container } = await pods.containers.get(pods.ctx, { id });
  assert.ok(container);
  return container;
}

export async function specOf(pods: Pods, id: string): Promise<OciSpec> {
  const { spec } = await containerOf(pods, id);
  assert.ok(spec);
  return parseSpec(spec.value);
}

/** As the container's record keeps it. */
export function configOf(extension: Any | undefined): PodSandboxConfig {
  assert.ok(extension);
  const { Version: version, Metadata: metadata } = JSON.parse(
    Buffer.from(extension.value).toString("utf8"),
  ) as { Version: string; Metadata: { Config: unknown } };
  assert.equal(version, "v1");
  return fromGoJson(PodSandboxConfigSchema, metadata.Config);
}

/** Nothing on record, no snapshot, no task. */
export async function assertGone(pods: Pods, id: string): Promise<void> {
  const { ctx, snapshots } = pods;
  await assertNoContainer(pods, id);
  await assert.rejects(snapshots.stat(ctx, { snapshotter: "overlayfs", key: id }), {
    code: "not-found",
  });
}

export async function assertNoContainer(pods: Pods, id: string): Promise<void> {
  const { ctx, containers, tasks } = pods;
  await assert.rejects(containers.get(ctx, { id }), { code: "not-found" });
  await assert.rejects(tasks.get(ctx, { containerId: id }), { code: "not-found" });
}
