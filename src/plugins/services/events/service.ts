import { Events } from "#api/services/events/v1/events_pb.ts";
import { Events as TtrpcEvents } from "#api/services/ttrpc/events/v1/events_pb.ts";
import type { Exchange } from "#core/events/events.ts";
import { RetoldEvents } from "#core/events/retold.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { envelopeMessage, envelopeOf, eventOf } from "#plugins/services/events/convert.ts";

/** containerd.services.events.v1.Events */
export function eventsService(exchange: Exchange): Service {
  return serve(Events, {
    async publish(ctx, { topic, event }) {
      await exchange.publish(ctx, topic, eventOf(event));
      return {};
    },
    async forward(ctx, { envelope }) {
      await exchange.forward(ctx, envelopeOf(envelope));
      return {};
    },
    async *subscribe(ctx, { filters }) {
      for await (const envelope of exchange.subscribe(ctx, filters)) {
        yield envelopeMessage(envelope);
      }
    },
  });
}

/** containerd.services.events.ttrpc.v1.Events, where shims publish. */
export function ttrpcEventsService(exchange: Pick<Exchange, "forward">): Service {
  const retold = new RetoldEvents();
  return serve(TtrpcEvents, {
    async forward(ctx, { envelope }) {
      const event = envelopeOf(envelope);
      await retold.forwardOnce(event, () => exchange.forward(ctx, event));
      return {};
    },
  });
}
