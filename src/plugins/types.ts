import type { ContentStore } from "#core/content/content.ts";
import type { Differ } from "#core/diff/diff.ts";
import type { Exchange } from "#core/events/events.ts";
import type { Collector } from "#core/gc/gc.ts";
import type { ImageVerifier } from "#core/images/image-verifier.ts";
import type { Deprecations } from "#core/introspection/deprecations.ts";
import type { LeaseManager } from "#core/leases/leases.ts";
import type { Metadata } from "#core/metadata/metadata.ts";
import type { CallMetrics } from "#core/metrics/call-metrics.ts";
import type { MetricSource } from "#core/metrics/metrics.ts";
import type { MountHandler, MountManager } from "#core/mount/manager.ts";
import type { TaskRuntime } from "#core/runtime/runtime.ts";
import type { ShimManager } from "#core/runtime/shim-manager.ts";
import type { SandboxController, SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { StreamManager } from "#core/streaming/streaming.ts";
import type { Transferrer } from "#core/transfer/transfer.ts";
import type { CriConfig } from "#cri/config.ts";
import { type PluginType, pluginType } from "#pkg/plugin/plugin.ts";
import type { Service } from "#pkg/rpc/service.ts";
import type { Server } from "#plugins/server/server.ts";

/** Every slot of the daemon and what its holders implement; names as upstream's. */

/** Blobs without namespaces; `metadata` gives them these. */
export const ContentPlugin: PluginType<ContentStore> = pluginType("io.containerd.content.v1");
/** Snapshot backends without namespaces. */
export const SnapshotPlugin: PluginType<Snapshotter> = pluginType("io.containerd.snapshotter.v1");
export const DiffPlugin: PluginType<Differ> = pluginType("io.containerd.differ.v1");
export const MetadataPlugin: PluginType<Metadata> = pluginType("io.containerd.metadata.v1");
export const EventPlugin: PluginType<Exchange> = pluginType("io.containerd.event.v1");
export const LeasePlugin: PluginType<LeaseManager> = pluginType("io.containerd.lease.v1");
export const GcPlugin: PluginType<Collector> = pluginType("io.containerd.gc.v1");
/** Shims by bundle; tasks and sandboxes stand on it. */
export const ShimPlugin: PluginType<ShimManager> = pluginType("io.containerd.shim.v1");
/** Makes the mounts that the kernel alone cannot. */
export const MountManagerPlugin: PluginType<MountManager> = pluginType(
  "io.containerd.mount-manager.v1",
);
/** Makes mounts of the type that is its id. */
export const MountHandlerPlugin: PluginType<MountHandler> = pluginType(
  "io.containerd.mount-handler.v1",
);
export const RuntimePlugin: PluginType<TaskRuntime> = pluginType("io.containerd.runtime.v2");
export const SandboxStorePlugin: PluginType<SandboxStore> = pluginType(
  "io.containerd.sandbox.store.v1",
);
/** Runs sandboxes; requests name one by its id (`shim`). */
export const SandboxControllerPlugin: PluginType<SandboxController> = pluginType(
  "io.containerd.sandbox.controller.v1",
);
/** As those, with a container that pauses for a sandbox; `podsandbox`. */
export const PodSandboxPlugin: PluginType<SandboxController> = pluginType(
  "io.containerd.podsandbox.controller.v1",
);
/** What Kubernetes' CRI stands on, by part: `images`, `runtime`. */
export const CriServicePlugin: PluginType<CriConfig> = pluginType("io.containerd.cri.v1");
/** Handlers over the stores, usable in the same process without a socket. */
export const ServicePlugin: PluginType<Service> = pluginType("io.containerd.service.v1");
/** What the gRPC servers serve. */
export const GrpcPlugin: PluginType<Service> = pluginType("io.containerd.grpc.v1");
/** What the ttrpc server serves. */
export const TtrpcPlugin: PluginType<Service> = pluginType("io.containerd.ttrpc.v1");
/** Streams by name, for calls that need more than one answer. */
export const StreamingPlugin: PluginType<StreamManager> = pluginType("io.containerd.streaming.v1");
/** Judges of images, asked before one is pulled. */
export const ImageVerifierPlugin: PluginType<ImageVerifier> = pluginType(
  "io.containerd.image-verifier.v1",
);
/** Moves images between registries, archives and the image store. */
export const TransferPlugin: PluginType<Transferrer> = pluginType("io.containerd.transfer.v1");
/** Listeners; started after everything else has. */
export const ServerPlugin: PluginType<Server> = pluginType("io.containerd.server.v1");
/** Uses of what is going away. */
export const WarningPlugin: PluginType<Deprecations> = pluginType("io.containerd.warning.v1");
/** Keeps containers in the state that their owners ask for. */
export const ContainerMonitorPlugin: PluginType<AsyncDisposable> = pluginType(
  "io.containerd.monitor.container.v1",
);
/** Tells what tasks use. */
export const TaskMonitorPlugin: PluginType<MetricSource> = pluginType(
  "io.containerd.monitor.task.v1",
);
/** Counts calls. */
export const MetricsPlugin: PluginType<CallMetrics> = pluginType("io.containerd.metrics.v1");
