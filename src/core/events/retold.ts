import { hash } from "node:crypto";
import type { Envelope } from "#core/events/events.ts";

/** Far more than a supervisor can have told in the moment before it died. */
const rememberedMax = 4096;

/**
 * Knows the events of tasks that a supervisor has told and its successor tells again.
 *
 * A successor tells what it cannot know to have arrived, as it was told first: two different events
 * never have one time, topic and payload. What is older than the last few thousand is forgotten.
 */
export class RetoldEvents {
  readonly #seen = new Set<string>();
  readonly #forwarding = new Map<string, Promise<void>>();

  /**
   * Forwards an event unless that was done before; one that was refused may come again. One that
   * comes while it is being forwarded (whoever sent it has waited in vain) ends with that.
   */
  async forwardOnce(envelope: Envelope, forward: () => Promise<void>): Promise<void> {
    if (!envelope.topic.startsWith("/tasks/")) return forward();
    const key = keyOf(envelope);
    if (this.#seen.has(key)) return;
    const known = this.#forwarding.get(key);
    if (known) return known;
    const forwarding = Promise.try(forward);
    this.#forwarding.set(key, forwarding);
    try {
      await forwarding;
    } finally {
      this.#forwarding.delete(key);
    }
    this.#seen.add(key);
    const [oldest] = this.#seen;
    if (this.#seen.size > rememberedMax && oldest !== undefined) this.#seen.delete(oldest);
  }
}

function keyOf({ timestamp, namespace, topic, event }: Envelope): string {
  const payload = Buffer.from(event.value).toString("base64");
  return hash("sha1", JSON.stringify([String(timestamp), namespace, topic, payload]));
}
