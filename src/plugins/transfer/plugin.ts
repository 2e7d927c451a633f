import * as v from "valibot";
import { DownloadLimit } from "#core/remotes/download-limit.ts";
import { LocalTransferrer } from "#core/transfer/local-transferrer.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, one } from "#pkg/plugin/requirement.ts";
import {
  defaultSnapshotter,
  type UnpackConfig,
  unpackTargets,
} from "#plugins/transfer/unpack-targets.ts";
import {
  DiffPlugin,
  LeasePlugin,
  MetadataPlugin,
  SnapshotPlugin,
  TransferPlugin,
} from "#plugins/types.ts";

const text = v.optional(v.string(), "");
const count = v.pipe(v.number(), v.integer(), v.minValue(0));

const schema = v.object({
  max_concurrent_downloads: count,
  concurrent_layer_fetch_buffer: count,
  max_concurrent_uploaded_layers: count,
  check_platform_supported: v.boolean(),
  config_path: v.string(),
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

export const localTransfer = definePlugin({
  type: TransferPlugin,
  id: "local",
  requires: {
    leases: one(LeasePlugin),
    metadata: one(MetadataPlugin),
    differs: all(DiffPlugin),
    snapshotters: all(SnapshotPlugin),
  },
  config: pluginConfig(schema, {
    max_concurrent_downloads: 3,
    concurrent_layer_fetch_buffer: 0,
    max_concurrent_uploaded_layers: 3,
    check_platform_supported: false,
    config_path: "",
    max_concurrent_unpacks: 1,
  }),
  async init({ needs, config, plugins }) {
    const { metadata, leases, differs } = needs;
    const unpacks = config.max_concurrent_unpacks;
    return new LocalTransferrer({
      content: metadata.content,
      images: metadata.images,
      leases,
      unpackTargets: unpackTargets({
        configs: config.unpack_config,
        isStrict: config.check_platform_supported,
        snapshotters: metadata.snapshotters,
        differs,
        plugins,
      }),
      defaultSnapshotter,
      locks: new KeyedMutex(),
      unpackLimiter: unpacks > 1 ? new DownloadLimit(unpacks) : undefined,
    });
  },
});
