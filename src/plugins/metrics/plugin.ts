import * as v from "valibot";
import { CallMetrics } from "#core/metrics/call-metrics.ts";
import { Counter } from "#core/metrics/instruments.ts";
import { ProcessMetrics } from "#core/metrics/process-metrics.ts";
import { MetricRegistry } from "#core/metrics/registry.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all } from "#pkg/plugin/requirement.ts";
import { GrpcPlugin, MetricsPlugin } from "#plugins/types.ts";

/** The daemon's registry, with what is known of the process before any plugin starts. */
export function daemonMetrics(build: {
  readonly version: string;
  readonly revision: string;
}): MetricRegistry {
  const registry = new MetricRegistry();
  const { version, revision } = build;
  const info = new Counter({ name: "containerd_build_info_total", help: "what was built" });
  info.add({ version, revision });
  registry.register(info);
  registry.register(new ProcessMetrics());
  return registry;
}

export function grpcPrometheus(registry: MetricRegistry) {
  return definePlugin({
    type: MetricsPlugin,
    id: "grpc-prometheus",
    requires: { services: all(GrpcPlugin) },
    config: pluginConfig(v.object({ grpc_histogram: v.boolean() }), { grpc_histogram: false }),
    async init({ needs, config, resources }) {
      const calls = new CallMetrics({ histogram: config.grpc_histogram });
      calls.prepare(needs.services.values());
      resources.use(registry.register(calls));
      return calls;
    },
  });
}
