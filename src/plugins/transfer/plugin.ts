import * as v from "valibot";
import { Limit } from "#pkg/limit.ts";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";
import { Transports } from "#core/remotes/transports.ts";
import { SpawnedPrograms, type SpawnedProgramsOptions } from "#core/runtime/spawned-programs.ts";
import { LocalTransferrer } from "#core/transfer/local-transferrer.ts";
import type { Transferrer } from "#core/transfer/transfer.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin, type Plugin } from "#pkg/plugin/plugin.ts";
import { all, allOrNone, one } from "#pkg/plugin/requirement.ts";
import { resolverOpener } from "#plugins/transfer/open-resolver.ts";
import { type RegistryRules, registryRules } from "#plugins/transfer/registry-rules.ts";
import {
  defaultSnapshotter,
  type UnpackConfig,
  unpackTargets,
} from "#plugins/transfer/unpack-targets.ts";
import {
  DiffPlugin,
  ImageVerifierPlugin,
  LeasePlugin,
  MetadataPlugin,
  SnapshotPlugin,
  TransferPlugin,
} from "#plugins/types.ts";

/** Where the configuration sets no limit. */
const uploadsMax = 32;

const text = v.optional(v.string(), "");
const count = v.pipe(v.number(), v.integer(), v.minValue(0));

const schema = v.object({
  max_concurrent_downloads: count,
  concurrent_layer_fetch_buffer: count,
  max_concurrent_uploaded_layers: count,
  check_platform_supported: v.boolean(),
  config_path: v.string(),
  docker_config: v.string(),
  referrers: v.array(v.string()),
  max_concurrent_unpacks: count,
  unpack_config: v.optional(
    v.array(
      v.object({
        platform: text,
        snapshotter: text,
        differ: text,
        config_type: text,
        layer_types: v.optional(v.array(v.string()), []),
        optional: v.optional(v.boolean(), false),
      }) satisfies v.GenericSchema<unknown, UnpackConfig>,
    ),
  ),
});

export interface TransferHost extends SpawnedProgramsOptions {
  /** Proxies and the file of trusted certificates are taken from it, as Go's programs do; helpers run with it. */
  readonly env: Readonly<Record<string, string>>;
}

const requires = {
  leases: one(LeasePlugin),
  metadata: one(MetadataPlugin),
  differs: all(DiffPlugin),
  // A judge that could not start objects to nothing: whoever configured it did not mean that.
  verifiers: allOrNone(ImageVerifierPlugin),
  snapshotters: all(SnapshotPlugin),
};

/** Of `io.containerd.transfer.v1.local`. */
export const transferConfig = pluginConfig(schema, {
  max_concurrent_downloads: 3,
  concurrent_layer_fetch_buffer: 0,
  max_concurrent_uploaded_layers: 3,
  check_platform_supported: false,
  config_path: "",
  // Ours alone: upstream's daemon has no credentials but those that clients send.
  docker_config: "",
  // Ours too: artifact types, or "*". Upstream's daemon takes no referrers along; its client does where it is asked to.
  referrers: [],
  // Upstream unpacks one layer after the other.
  max_concurrent_unpacks: 2,
});

export type TransferConfig = v.InferOutput<typeof schema>;

/** Types of artifacts, none for every type; undefined where none are wanted. */
function pulledReferrers(types: readonly string[]): readonly string[] | undefined {
  if (types.length === 0) return undefined;
  return types.includes("*") ? [] : types;
}

/** Hosts and credentials by a configuration: its own section, and the CRI plugin's `registry`. */
export function transferRules(
  host: TransferHost,
  { config_path: configPath, docker_config: dockerConfig }: TransferConfig,
  criTable: unknown,
): RegistryRules {
  const helpers = { programs: new SpawnedPrograms(host), env: host.env };
  return registryRules({ configPath, dockerConfig, criTable }, helpers);
}

export function localTransfer(
  host: TransferHost,
  criTable: unknown,
): Plugin<Transferrer, typeof requires, TransferConfig> {
  const { env } = host;
  return definePlugin({
    type: TransferPlugin,
    id: "local",
    requires,
    config: transferConfig,
    async init({ needs, config: given, plugins, resources }) {
      const { metadata, leases, differs, verifiers } = needs;
      const unpacks = given.max_concurrent_unpacks;
      const uploads = given.max_concurrent_uploaded_layers;
      const transports = resources.use(
        new Transports({ proxyFor: proxyFromEnvironment(env), systemCaFile: env["SSL_CERT_FILE"] }),
      );
      return new LocalTransferrer({
        content: metadata.content,
        images: metadata.images,
        leases,
        verifiers,
        unpackTargets: unpackTargets({
          configs: given.unpack_config,
          isStrict: given.check_platform_supported,
          snapshotters: metadata.snapshotters,
          differs,
          plugins,
        }),
        defaultSnapshotter,
        locks: new KeyedMutex(),
        unpackLimiter: unpacks > 1 ? new Limit(unpacks) : undefined,
        uploadLimiter: new Limit(uploads > 0 ? uploads : uploadsMax),
        referrers: pulledReferrers(given.referrers),
        openResolver: resolverOpener(transports, {
          rules: transferRules(host, given, criTable),
          downloadsMax: given.max_concurrent_downloads,
          rangeBytes: given.concurrent_layer_fetch_buffer,
        }),
      });
    },
  });
}
