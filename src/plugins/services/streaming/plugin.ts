import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId } from "#pkg/plugin/requirement.ts";
import { streamingService } from "#plugins/services/streaming/service.ts";
import { GrpcPlugin, StreamingPlugin } from "#plugins/types.ts";

export const streamingGrpc = definePlugin({
  type: GrpcPlugin,
  id: "streaming",
  requires: { streams: byId(StreamingPlugin, "manager") },
  async init({ needs }) {
    return streamingService(needs.streams);
  },
});
