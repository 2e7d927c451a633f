import { create } from "@bufbuild/protobuf";
import { AnySchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Events } from "#api/services/ttrpc/events/v1/events_pb.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { nanosToTimestamp } from "#pkg/time.ts";
import type { Envelope, Forward } from "./publisher.ts";

const forwardTimeoutMs = 5_000;

/**
 * Events to the daemon's ttrpc socket, over one connection that is made anew when the daemon was
 * restarted.
 */
export class EventsProxy implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #path: string;
  #transport: TtrpcTransport | undefined;

  constructor(ctx: Context, path: string) {
    this.#ctx = ctx;
    this.#path = path;
  }

  readonly forward: Forward = async (envelope: Envelope) => {
    const old = this.#transport;
    try {
      await this.#send(envelope);
    } catch (error) {
      // The daemon was restarted: its socket may answer although the connection is gone.
      if (old === undefined || old.isOpen || !hasCode(error, "unavailable")) throw error;
      await this.#send(envelope);
    }
  };

  async #send(envelope: Envelope): Promise<void> {
    const ctx = this.#ctx.withTimeout(forwardTimeoutMs).withNamespace(envelope.namespace);
    if (!this.#transport?.isOpen) this.#transport = await TtrpcTransport.connect(ctx, this.#path);
    await createClient(Events, this.#transport).forward(ctx, {
      envelope: {
        timestamp: create(TimestampSchema, nanosToTimestamp(envelope.at)),
        namespace: envelope.namespace,
        topic: envelope.topic,
        event: create(AnySchema, envelope.event),
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport?.close();
  }
}
