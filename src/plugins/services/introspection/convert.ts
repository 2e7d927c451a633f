import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  PluginSchema,
  ServerResponseSchema,
} from "#api/services/introspection/v1/introspection_pb.ts";
import type { ServerInfo } from "#core/introspection/introspection.ts";
import { toStatus } from "#pkg/errors.ts";
import type { PluginPlatform, PluginRecord } from "#pkg/plugin/plugin.ts";
import { nanosToTimestamp } from "#pkg/time.ts";

export function pluginMessage(plugin: PluginRecord): MessageInitShape<typeof PluginSchema> {
  return {
    type: plugin.type,
    id: plugin.id,
    requires: [...plugin.requires],
    platforms: plugin.platforms.map(platformMessage),
    exports: Object.fromEntries(plugin.exports),
    capabilities: [...plugin.capabilities],
    ...(plugin.error !== undefined && { initErr: toStatus(plugin.error) }),
  };
}

function platformMessage(platform: PluginPlatform): {
  os: string;
  architecture: string;
  variant: string;
  osVersion: string;
  osFeatures: string[];
} {
  const { os, architecture, variant = "", osVersion = "", osFeatures = [] } = platform;
  return { os, architecture, variant, osVersion, osFeatures: [...osFeatures] };
}

export function serverMessage(server: ServerInfo): MessageInitShape<typeof ServerResponseSchema> {
  return {
    uuid: server.uuid,
    pid: BigInt(server.pid),
    pidns: BigInt(server.pidns),
    deprecations: server.deprecations.map(({ id, message, lastOccurrence }) => ({
      id,
      message,
      lastOccurrence: nanosToTimestamp(lastOccurrence),
    })),
  };
}
