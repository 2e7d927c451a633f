import type { Host } from "#cmd/containerd/host.ts";
import type { StreamProcessor } from "#core/diff/stream-processors.ts";
import { SharedTreeWorkers } from "#pkg/archive/shared-tree-workers.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";
import { localContent } from "#plugins/content/local/plugin.ts";
import { criImages, criRuntime } from "#plugins/cri/plugin.ts";
import { walking } from "#plugins/differ/walking/plugin.ts";
import { exchange } from "#plugins/event/plugin.ts";
import { gcScheduler } from "#plugins/gc/plugin.ts";
import { bindirVerifier } from "#plugins/image-verifier/bindir/plugin.ts";
import { leaseManager } from "#plugins/lease/plugin.ts";
import { boltMetadata } from "#plugins/metadata/plugin.ts";
import { shimManager, taskRuntime } from "#plugins/runtime/plugin.ts";
import { daemonMetrics, grpcPrometheus } from "#plugins/metrics/plugin.ts";
import { cgroupMonitor } from "#plugins/monitor/cgroups/plugin.ts";
import { restartMonitor } from "#plugins/monitor/restart/plugin.ts";
import { grpcServer, metricsServer, ttrpcServer } from "#plugins/server/plugin.ts";
import { podSandboxController } from "#plugins/podsandbox/plugin.ts";
import { localSandboxStore, shimSandboxController } from "#plugins/sandbox/plugin.ts";
import { containersGrpc, containersService } from "#plugins/services/containers/plugin.ts";
import { contentGrpc, contentService } from "#plugins/services/content/plugin.ts";
import { diffGrpc, diffService } from "#plugins/services/diff/plugin.ts";
import { events } from "#plugins/services/events/plugin.ts";
import { healthcheck } from "#plugins/services/health/plugin.ts";
import { imagesGrpc, imagesService } from "#plugins/services/images/plugin.ts";
import { erofsMounts } from "#plugins/mount/erofs/plugin.ts";
import { mountManager } from "#plugins/mount/plugin.ts";
import { mountsGrpc } from "#plugins/services/mounts/plugin.ts";
import { introspectionGrpc, introspectionService } from "#plugins/services/introspection/plugin.ts";
import { leasesGrpc } from "#plugins/services/leases/plugin.ts";
import { namespacesGrpc, namespacesService } from "#plugins/services/namespaces/plugin.ts";
import { sandboxControllersGrpc, sandboxesGrpc } from "#plugins/services/sandbox/plugin.ts";
import { snapshotsGrpc, snapshotsService } from "#plugins/services/snapshots/plugin.ts";
import { streamingGrpc } from "#plugins/services/streaming/plugin.ts";
import { tasksGrpc, tasksService } from "#plugins/services/tasks/plugin.ts";
import { transferGrpc } from "#plugins/services/transfer/plugin.ts";
import { version } from "#plugins/services/version/plugin.ts";
import { deprecations } from "#plugins/services/warning/plugin.ts";
import { native } from "#plugins/snapshotter/native/plugin.ts";
import { overlayfs } from "#plugins/snapshotter/overlayfs/plugin.ts";
import { streaming } from "#plugins/streaming/plugin.ts";
import { localTransfer } from "#plugins/transfer/plugin.ts";

/** What plugins need of the configuration besides their own sections. */
export interface BuiltinSettings {
  readonly streamProcessors: readonly StreamProcessor[];
  /** The `registry` table of the CRI plugin: it holds for whoever asks a registry. */
  readonly criRegistry: unknown;
}

/**
 * Every plugin of the daemon. The order counts only among those that do not require each other.
 *
 * Their own sections of the configuration are given to plugins when they start; what they need of
 * the rest of it comes with `settings`, which may be left out where nothing is started.
 */
export function builtins(
  host: Host,
  settings: BuiltinSettings = { streamProcessors: [], criRegistry: undefined },
): readonly AnyPlugin[] {
  const metrics = daemonMetrics(host);
  const trees = new SharedTreeWorkers();
  return [
    localContent,
    exchange,
    native(trees),
    overlayfs(trees),
    boltMetadata,
    gcScheduler(metrics),
    leaseManager,
    walking(host, settings.streamProcessors, trees),
    streaming,
    bindirVerifier(host),
    localTransfer(host, settings.criRegistry),
    containersService,
    contentService,
    diffService,
    imagesService,
    namespacesService,
    snapshotsService,
    shimManager(host),
    localSandboxStore,
    shimSandboxController,
    erofsMounts(host),
    mountManager(host),
    taskRuntime(host),
    criImages,
    criRuntime,
    podSandboxController(host),
    tasksService,
    restartMonitor,
    cgroupMonitor(metrics),
    tasksGrpc,
    containersGrpc,
    contentGrpc,
    diffGrpc,
    imagesGrpc,
    leasesGrpc,
    mountsGrpc,
    namespacesGrpc,
    sandboxControllersGrpc,
    sandboxesGrpc,
    snapshotsGrpc,
    streamingGrpc,
    transferGrpc,
    deprecations,
    introspectionService,
    events,
    healthcheck,
    introspectionGrpc,
    version(host),
    grpcPrometheus(metrics),
    metricsServer(metrics),
    grpcServer,
    ttrpcServer(host),
  ];
}
