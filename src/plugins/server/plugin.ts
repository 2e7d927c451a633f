import * as v from "valibot";
import type { MetricRegistry } from "#core/metrics/registry.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin, SkipPlugin } from "#pkg/plugin/plugin.ts";
import { all, optional } from "#pkg/plugin/requirement.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import {
  defaultAddress,
  defaultMessageBytes,
  messageSchema,
  socketOwner,
  socketSchema,
  ttrpcSuffix,
} from "#plugins/server/config.ts";
import { GrpcListener } from "#plugins/server/grpc.ts";
import { MetricsListener } from "#plugins/server/metrics.ts";
import { TtrpcListener } from "#plugins/server/ttrpc.ts";
import { ttrpcServicesOf } from "#plugins/server/ttrpc-service.ts";
import { GrpcPlugin, MetricsPlugin, ServerPlugin, TtrpcPlugin } from "#plugins/types.ts";

export const grpcServer = definePlugin({
  type: ServerPlugin,
  id: "grpc",
  requires: { services: all(GrpcPlugin), calls: optional(MetricsPlugin, "grpc-prometheus") },
  config: pluginConfig(v.object({ ...socketSchema, ...messageSchema }), {
    address: defaultAddress,
    ...socketOwner,
    max_recv_message_size: defaultMessageBytes,
    max_send_message_size: defaultMessageBytes,
  }),
  async init({ ctx, config, needs }) {
    if (config.address === "") throw invalidArgument("grpc address cannot be empty");
    return new GrpcListener({
      address: config.address,
      uid: config.uid,
      gid: config.gid,
      receiveBytesMax: config.max_recv_message_size,
      sendBytesMax: config.max_send_message_size,
      services: [...needs.services.values()],
      observer: needs.calls,
      logger: ctx.logger,
    });
  },
});

export interface TtrpcHost {
  readonly sys: Pick<Syscalls, "getPeerUid">;
}

export function ttrpcServer({ sys }: TtrpcHost) {
  return definePlugin({
    type: ServerPlugin,
    id: "ttrpc",
    requires: { ttrpc: all(TtrpcPlugin), grpc: all(GrpcPlugin) },
    config: pluginConfig(v.object(socketSchema), {
      address: defaultAddress + ttrpcSuffix,
      ...socketOwner,
    }),
    async init({ ctx, config, needs }) {
      if (config.address === "") throw new SkipPlugin("");
      const services = [...needs.ttrpc.values(), ...ttrpcServicesOf(needs.grpc.values())];
      if (services.length === 0) throw new SkipPlugin("no ttrpc services configured");
      return new TtrpcListener({ ...config, services, logger: ctx.logger, sys });
    },
  });
}

export function metricsServer(registry: MetricRegistry) {
  return definePlugin({
    type: ServerPlugin,
    id: "metrics",
    requires: {},
    config: pluginConfig(v.object({ address: v.string() }), { address: "" }),
    async init({ config }) {
      if (config.address === "") throw new SkipPlugin("");
      return new MetricsListener(config.address, registry);
    },
  });
}
