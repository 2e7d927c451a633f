import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { UnixNanos } from "#pkg/time.ts";

export interface Envelope {
  readonly timestamp: UnixNanos;
  readonly namespace: string;
  /** `/` and identifiers: `/tasks/exit`. */
  readonly topic: string;
  readonly event: Any;
}

/** Says that something happened, in `ctx.namespace`. `core/events/convert.ts` makes the payloads. */
export interface Publisher {
  /** Throws `invalid-argument` for a bad topic, `failed-precondition` without a namespace. Never waits for readers. */
  publish(ctx: Context, topic: string, event: Any): Promise<void>;
}

/** The daemon's event bus: what is published reaches everyone who is subscribed at that moment, in order. */
export interface Exchange extends Publisher {
  /** Passes on an event that happened elsewhere (a shim), with its own time and namespace. */
  forward(ctx: Context, envelope: Envelope): Promise<void>;
  /** Events of all namespaces that match one of the filters (none: all), until `ctx` ends. */
  subscribe(ctx: Context, filters?: readonly string[]): AsyncIterable<Envelope>;
}
