import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, byId } from "#pkg/plugin/requirement.ts";
import { transferService } from "#plugins/services/transfer/service.ts";
import { GrpcPlugin, StreamingPlugin, TransferPlugin } from "#plugins/types.ts";

export const transferGrpc = definePlugin({
  type: GrpcPlugin,
  id: "transfer",
  requires: { transferrers: all(TransferPlugin), streams: byId(StreamingPlugin, "manager") },
  async init({ needs }) {
    return transferService({
      transferrers: [...needs.transferrers.values()],
      streams: needs.streams,
    });
  },
});
