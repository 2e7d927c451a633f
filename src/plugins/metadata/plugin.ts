import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { openMetadata } from "#core/metadata/open.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, one } from "#pkg/plugin/requirement.ts";
import { ContentPlugin, EventPlugin, MetadataPlugin, SnapshotPlugin } from "#plugins/types.ts";

/** A daemon that is being replaced still closes its database. */
const lockTimeoutMs = 10_000;

const schema = v.object({
  content_sharing_policy: v.picklist(["shared", "isolated"]),
  no_sync: v.boolean(),
});

export const boltMetadata = definePlugin({
  type: MetadataPlugin,
  id: "bolt",
  requires: {
    content: one(ContentPlugin),
    events: one(EventPlugin),
    snapshotters: all(SnapshotPlugin),
  },
  config: pluginConfig(schema, { content_sharing_policy: "shared", no_sync: false }),
  async init({ ctx, needs, config, rootDir, exports, failpoints }) {
    await mkdir(rootDir, { recursive: true, mode: 0o711 });
    const path = join(rootDir, "meta.sqlite");
    const policy = config.content_sharing_policy;
    exports.set("policy", policy);
    exports.set("path", path);
    ctx.logger.info("metadata content store policy set", { policy });
    if (config.no_sync)
      ctx.logger.warn("metadata is not synced: a power cut may lose what was done");
    return openMetadata(ctx, {
      path,
      content: needs.content,
      snapshotters: needs.snapshotters,
      publisher: needs.events,
      contentSharingPolicy: policy,
      noSync: config.no_sync,
      lockTimeoutMs,
      failpoints,
    });
  },
});
