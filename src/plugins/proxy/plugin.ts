import { ProxyContentStore } from "#core/content/proxy.ts";
import { GrpcDiffer } from "#core/diff/proxy.ts";
import { GrpcSandboxController } from "#core/sandbox/controller-proxy.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { quote } from "#pkg/log-format.ts";
import { parsePlatform } from "#pkg/platform.ts";
import {
  type AnyPlugin,
  definePlugin,
  type PluginPlatform,
  type PluginType,
} from "#pkg/plugin/plugin.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Transport } from "#pkg/rpc/service.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import {
  ContentPlugin,
  DiffPlugin,
  SandboxControllerPlugin,
  SnapshotPlugin,
} from "#plugins/types.ts";

/** A plugin that another process is: an entry of `proxy_plugins`. */
export interface ProxyPluginOptions {
  /** `snapshot`, `content`, `diff` or `sandbox`, or the whole name of the plugin type. */
  readonly type: string;
  /** A unix socket's path, with or without `unix://`. */
  readonly address: string;
  /** Empty: that of the host. */
  readonly platform: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
}

/**
 * The plugins that the configuration names. Each has a connection of its own, made when it is first
 * used: the daemon starts whether or not the other process runs, and what needs it fails as
 * `unavailable` meanwhile.
 *
 * An entry of a type that there is no proxy for is warned of and left out.
 */
export function proxyPlugins(
  entries: Readonly<Record<string, ProxyPluginOptions>>,
  logger: Logger,
): readonly AnyPlugin[] {
  return Object.entries(entries).flatMap(([name, options]) => {
    switch (options.type) {
      case "snapshot":
      case SnapshotPlugin.name: {
        const make = (transport: Transport) => new GrpcSnapshotter(transport, name);
        return [proxyPlugin(SnapshotPlugin, name, options, make)];
      }
      case "content":
      case ContentPlugin.name: {
        return [proxyPlugin(ContentPlugin, name, options, (t) => new ProxyContentStore(t))];
      }
      case "diff":
      case DiffPlugin.name:
        return [proxyPlugin(DiffPlugin, name, options, (t) => new GrpcDiffer(t))];
      case "sandbox":
      case SandboxControllerPlugin.name: {
        const make = (transport: Transport) => new GrpcSandboxController(transport, name);
        return [proxyPlugin(SandboxControllerPlugin, name, options, make)];
      }
      default:
        logger.warn("unknown proxy plugin type", { plugin: name, type: options.type });
        return [];
    }
  });
}

function proxyPlugin<I>(
  type: PluginType<I>,
  name: string,
  options: ProxyPluginOptions,
  make: (transport: Transport) => NoInfer<I>,
): AnyPlugin {
  return definePlugin({
    type,
    id: name,
    requires: {},
    async init({ ctx, platforms, exports, capabilities, resources }) {
      const { address } = options;
      for (const [key, value] of Object.entries(options.exports)) exports.set(key, value);
      exports.set("address", address);
      capabilities.push(...options.capabilities);
      platforms.push(...platformsOf(options, ctx.logger));
      return make(resources.use(new GrpcTransport({ path: socketPath(name, address) })));
    },
  });
}

/** The entry is of use without a platform that parses: clients then take it for none. */
function platformsOf({ platform }: ProxyPluginOptions, logger: Logger): readonly PluginPlatform[] {
  if (platform === "") return [hostPlatform()];
  try {
    return [parsePlatform(platform)];
  } catch (error) {
    logger.warn("skipping proxy platform with bad platform", { error: messageOf(error) });
    return [];
  }
}

function socketPath(name: string, address: string): string {
  const path = address.replace(/^unix:\/\//, "");
  if (path !== "" && !path.includes("://")) return path;
  throw invalidArgument(`proxy plugin ${quote(name)}: address ${quote(address)} is no unix socket`);
}
