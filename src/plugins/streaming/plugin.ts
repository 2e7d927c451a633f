import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import { LocalStreams } from "#plugins/streaming/stream-manager.ts";
import { MetadataPlugin, StreamingPlugin } from "#plugins/types.ts";

export const streaming = definePlugin({
  type: StreamingPlugin,
  id: "manager",
  requires: { metadata: one(MetadataPlugin) },
  async init({ needs, resources }) {
    const streams = new LocalStreams();
    resources.use(needs.metadata.registerResources(streams));
    return streams;
  },
});
