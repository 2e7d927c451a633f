import * as v from "valibot";
import { formatDuration, tryParseDuration } from "#pkg/duration.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import { GcScheduler } from "#plugins/gc/scheduler.ts";
import { GcPlugin, MetadataPlugin } from "#plugins/types.ts";

const durationMs = v.pipe(
  v.string(),
  v.check((text) => tryParseDuration(text) !== undefined, "duration"),
  v.transform((text) => tryParseDuration(text) ?? 0),
);

const schema = v.object({
  pause_threshold: v.number(),
  deletion_threshold: v.pipe(v.number(), v.integer()),
  mutation_threshold: v.pipe(v.number(), v.integer()),
  schedule_delay: durationMs,
  startup_delay: durationMs,
});

export const gcScheduler = definePlugin({
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
  async init({ ctx, needs, config, exports }) {
    const scheduler = new GcScheduler(ctx, needs.metadata, {
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
