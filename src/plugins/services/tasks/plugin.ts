import * as v from "valibot";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import {
  GrpcPlugin,
  MetadataPlugin,
  RuntimePlugin,
  ServicePlugin,
  WarningPlugin,
} from "#plugins/types.ts";
import { defaultStateTimeoutMs, LocalTasks } from "./local.ts";
import { tasksService as serviceOf } from "./service.ts";

const stateTimeout = "io.containerd.timeout.task.state";

export const tasksService = definePlugin({
  type: ServicePlugin,
  id: "tasks-service",
  requires: {
    metadata: one(MetadataPlugin),
    runtime: byId(RuntimePlugin, "task"),
    deprecations: byId(WarningPlugin, "deprecations"),
  },
  config: pluginConfig(v.object({ blockio_config_file: v.string(), rdt_config_file: v.string() }), {
    blockio_config_file: "",
    rdt_config_file: "",
  }),
  timeouts: { [stateTimeout]: defaultStateTimeoutMs },
  async init({ ctx, needs, config, timeoutMs }) {
    for (const [key, path] of Object.entries(config)) {
      if (path !== "")
        ctx.logger.warn(`${key} is set, which this daemon cannot apply yet`, { path });
    }
    const { containers } = needs.metadata;
    const stateTimeoutMs = timeoutMs(stateTimeout);
    const { runtime, deprecations } = needs;
    return serviceOf(new LocalTasks({ containers, runtime, stateTimeoutMs }), deprecations);
  },
});

export const tasksGrpc = definePlugin({
  type: GrpcPlugin,
  id: "tasks",
  requires: { tasks: byId(ServicePlugin, "tasks-service") },
  async init({ needs }) {
    return needs.tasks;
  },
});
