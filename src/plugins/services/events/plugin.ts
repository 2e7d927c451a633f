import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId } from "#pkg/plugin/requirement.ts";
import { withTtrpc } from "#plugins/server/ttrpc-service.ts";
import { eventsService, ttrpcEventsService } from "#plugins/services/events/service.ts";
import { EventPlugin, GrpcPlugin } from "#plugins/types.ts";

export const events = definePlugin({
  type: GrpcPlugin,
  id: "events",
  requires: { exchange: byId(EventPlugin, "exchange") },
  async init({ needs }) {
    return withTtrpc(eventsService(needs.exchange), ttrpcEventsService(needs.exchange));
  },
});
