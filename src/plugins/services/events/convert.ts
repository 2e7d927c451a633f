import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Envelope as EnvelopeMessage, EnvelopeSchema } from "#api/types/event_pb.ts";
import type { Envelope } from "#core/events/events.ts";
import { unsetTimestamp } from "#core/events/exchange.ts";
import type { Any } from "#pkg/any.ts";
import { nanosToTimestamp, timestampToNanos } from "#pkg/time.ts";

export function envelopeOf(message: EnvelopeMessage | undefined): Envelope {
  return {
    timestamp: message?.timestamp ? timestampToNanos(message.timestamp) : unsetTimestamp,
    namespace: message?.namespace ?? "",
    topic: message?.topic ?? "",
    event: eventOf(message?.event),
  };
}

export function eventOf(message: { typeUrl: string; value: Uint8Array } | undefined): Any {
  if (!message) return { typeUrl: "", value: new Uint8Array() };
  // A bare name is what everything in the daemon knows a type by, and what upstream sends on.
  const typeUrl = message.typeUrl.replace(/^type\.googleapis\.com\//, "");
  return { typeUrl, value: message.value };
}

export function envelopeMessage(envelope: Envelope): MessageInitShape<typeof EnvelopeSchema> {
  return {
    timestamp: nanosToTimestamp(envelope.timestamp),
    namespace: envelope.namespace,
    topic: envelope.topic,
    event: { ...envelope.event },
  };
}
