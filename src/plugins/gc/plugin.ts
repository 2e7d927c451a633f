import * as v from "valibot";
import { Counter, SecondsHistogram } from "#core/metrics/instruments.ts";
import type { MetricRegistry } from "#core/metrics/registry.ts";
import { formatDuration } from "#pkg/duration.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { durationMs } from "#pkg/plugin/duration-setting.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import { type Collectable, GcScheduler } from "#plugins/gc/scheduler.ts";
import { GcPlugin, MetadataPlugin } from "#plugins/types.ts";

const schema = v.object({
  pause_threshold: v.number(),
  deletion_threshold: v.pipe(v.number(), v.integer()),
  mutation_threshold: v.pipe(v.number(), v.integer()),
  schedule_delay: durationMs,
  startup_delay: durationMs,
});

export function gcScheduler(registry: MetricRegistry) {
  return definePlugin({
    type: GcPlugin,
    id: "scheduler",
    requires: { metadata: one(MetadataPlugin) },
    config: pluginConfig(schema, {
      pause_threshold: 0.02,
      deletion_threshold: 0,
      mutation_threshold: 100,
      schedule_delay: "0s",
      startup_delay: "100ms",
    }),
    async init({ ctx, needs, config, exports, resources }) {
      const scheduler = new GcScheduler(ctx, measured(needs.metadata, registry, resources), {
        pauseThreshold: config.pause_threshold,
        deletionThreshold: config.deletion_threshold,
        mutationThreshold: config.mutation_threshold,
        scheduleDelayMs: config.schedule_delay,
        startupDelayMs: config.startup_delay,
      });
      exports.set("PauseThreshold", String(scheduler.options.pauseThreshold));
      exports.set("DeletionThreshold", String(scheduler.options.deletionThreshold));
      exports.set("MutationThreshold", String(scheduler.options.mutationThreshold));
      exports.set("ScheduleDelay", formatDuration(scheduler.options.scheduleDelayMs));
      return scheduler;
    },
  });
}

/** Counts collections, and how long those took that succeeded. */
function measured(
  target: Collectable,
  registry: MetricRegistry,
  resources: AsyncDisposableStack,
): Collectable {
  const collections = new Counter({
    name: "containerd_gc_collections_total",
    help: "collections, by how they ended",
  });
  const seconds = new SecondsHistogram({
    name: "containerd_gc_gc_seconds",
    help: "how long collections took",
  });
  seconds.prepare();
  for (const source of [collections, seconds]) resources.use(registry.register(source));
  return {
    onMutation: (listener) => target.onMutation(listener),
    collector: {
      async scheduleAndWait(ctx) {
        try {
          const stats = await target.collector.scheduleAndWait(ctx);
          collections.add({ status: "success" });
          seconds.observe(stats.elapsedMs / 1000);
          return stats;
        } catch (error) {
          collections.add({ status: "fail" });
          throw error;
        }
      },
    },
  };
}
