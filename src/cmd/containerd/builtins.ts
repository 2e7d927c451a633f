import type { Host } from "#cmd/containerd/host.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";
import { exchange } from "#plugins/event/plugin.ts";
import { grpcServer, ttrpcServer } from "#plugins/server/plugin.ts";
import { events } from "#plugins/services/events/plugin.ts";
import { healthcheck } from "#plugins/services/health/plugin.ts";
import { introspectionGrpc, introspectionService } from "#plugins/services/introspection/plugin.ts";
import { version } from "#plugins/services/version/plugin.ts";
import { deprecations } from "#plugins/services/warning/plugin.ts";
import { native } from "#plugins/snapshotter/native/plugin.ts";
import { overlayfs } from "#plugins/snapshotter/overlayfs/plugin.ts";

/** Every plugin of the daemon. The order counts only among those that do not require each other. */
export function builtins(host: Host): readonly AnyPlugin[] {
  return [
    exchange,
    native,
    overlayfs,
    deprecations,
    introspectionService,
    events,
    healthcheck,
    introspectionGrpc,
    version(host),
    grpcServer,
    ttrpcServer(host),
  ];
}
