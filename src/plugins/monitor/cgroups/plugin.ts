import * as v from "valibot";
import { CgroupMetrics, defaultStatsTimeoutMs } from "#core/cgroups/cgroup-metrics.ts";
import type { MetricRegistry } from "#core/metrics/registry.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { MetadataPlugin, RuntimePlugin, TaskMonitorPlugin } from "#plugins/types.ts";

const statsTimeout = "io.containerd.timeout.metrics.shimstats";
const uri = "io.containerd.monitor.task.v1.cgroups";
/** Its name before version 4 of the configuration. */
const formerUri = "io.containerd.monitor.v1.cgroups";

export function cgroupMonitor(registry: MetricRegistry) {
  return definePlugin({
    type: TaskMonitorPlugin,
    id: "cgroups",
    requires: { metadata: one(MetadataPlugin), runtime: byId(RuntimePlugin, "task") },
    config: pluginConfig(
      v.object({ no_prometheus: v.boolean() }),
      { no_prometheus: false },
      renameSection,
    ),
    timeouts: { [statsTimeout]: defaultStatsTimeoutMs },
    async init({ needs, config, platforms, resources, timeoutMs }) {
      const architecture = process.arch === "x64" ? "amd64" : process.arch;
      platforms.push({ os: "linux", architecture });
      const metrics = new CgroupMetrics({
        runtime: needs.runtime,
        containers: needs.metadata.containers,
        statsTimeoutMs: timeoutMs(statsTimeout),
      });
      if (!config.no_prometheus) resources.use(registry.register(metrics));
      return metrics;
    },
  });
}

function renameSection(_fromVersion: number, sections: Record<string, unknown>): void {
  const section = sections[formerUri];
  if (section === undefined) return;
  sections[uri] = section;
  delete sections[formerUri];
}
