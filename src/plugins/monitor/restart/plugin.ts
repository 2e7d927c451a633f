import * as v from "valibot";
import { RestartMonitor } from "#core/restart/restart-monitor.ts";
import { tryParseDuration } from "#pkg/duration.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { ContainerMonitorPlugin, MetadataPlugin, RuntimePlugin } from "#plugins/types.ts";

const defaultIntervalMs = 10_000;
const uri = "io.containerd.monitor.container.v1.restart";
/** Its name before version 4 of the configuration. */
const formerUri = "io.containerd.internal.v1.restart";

const intervalMs = v.pipe(
  v.string(),
  v.check((text) => (tryParseDuration(text) ?? -1) >= 0, 'duration of 0 or more, such as "10s"'),
  v.transform((text) => tryParseDuration(text) ?? 0),
);

export const restartMonitor = definePlugin({
  type: ContainerMonitorPlugin,
  id: "restart",
  requires: { metadata: one(MetadataPlugin), runtime: byId(RuntimePlugin, "task") },
  config: pluginConfig(v.object({ interval: intervalMs }), { interval: "10s" }, renameSection),
  async init({ ctx, needs, config, capabilities }) {
    capabilities.push("no", "always", "on-failure", "unless-stopped");
    const { namespaces, containers, snapshotters } = needs.metadata;
    const monitor = new RestartMonitor(ctx, {
      namespaces,
      containers,
      snapshotters,
      runtime: needs.runtime,
      // Zero is the default, as upstream.
      intervalMs: config.interval || defaultIntervalMs,
    });
    monitor.start();
    return monitor;
  },
});

function renameSection(_fromVersion: number, sections: Record<string, unknown>): void {
  const section = sections[formerUri];
  if (section === undefined) return;
  sections[uri] = section;
  delete sections[formerUri];
}
