import assert from "node:assert";
import fc from "fast-check";
import type { Envelope } from "#core/events/events.ts";
import { InProcessExchange } from "#core/events/exchange.ts";
import { Context } from "#pkg/context.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const topics = ["/a", "/a/b", "/c"];
const badTopics = ["", "/", "a", "/a//b", "/a b"];
const namespaces = ["one", "two"];
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("publish" as const),
      topic: fc.constantFrom(...topics, ...badTopics),
      ns: fc.constantFrom(...namespaces),
      forward: fc.boolean(),
    }),
  },
  fc.record({
    do: fc.constant("subscribe" as const),
    topic: fc.option(fc.constantFrom(...topics)),
    ns: fc.option(fc.constantFrom(...namespaces)),
  }),
  fc.record({ do: fc.constant("leave" as const), nth: fc.nat(3) }),
  fc.record({ do: fc.constant("read" as const), nth: fc.nat(3), count: fc.nat(5) }),
);

interface Subscriber {
  readonly matches: (topic: string, ns: string) => boolean;
  readonly events: AsyncIterator<Envelope>;
  readonly leave: AbortController;
  readonly waiting: string[];
}

function subscribe(
  exchange: InProcessExchange,
  { topic, ns }: { topic: string | null; ns: string | null },
): Subscriber {
  const leave = new AbortController();
  const conditions = [
    ...(topic === null ? [] : [`topic=="${topic}"`]),
    ...(ns === null ? [] : [`namespace==${ns}`]),
  ];
  const filters = conditions.length === 0 ? [] : [conditions.join(",")];
  const events = exchange.subscribe(Context.background({ signal: leave.signal }), filters);
  return {
    matches: (t, n) => (topic === null || t === topic) && (ns === null || n === ns),
    events: events[Symbol.asyncIterator](),
    leave,
    waiting: [],
  };
}

/** Reads so many of the events that must be there, and compares. */
async function read({ events, waiting }: Subscriber, count: number): Promise<void> {
  for (const expected of waiting.splice(0, count)) {
    const next = await events.next();
    assert.ok(next.done !== true, "the subscription ended with events waiting");
    assert.strictEqual(new TextDecoder().decode(next.value.event.value), expected);
  }
}

/** Every subscriber gets every event that its filter matches while it is subscribed, in order, and nothing else. */
export const target = fuzzTarget({
  name: "Exchange",
  smokeRuns: 200,
  inputs: fc.array(step, { minLength: 1, maxLength: 40 }),
  async check(steps) {
    using exchange = new InProcessExchange();
    const subscribers: Subscriber[] = [];
    for (const [i, step] of steps.entries()) {
      if (step.do === "publish") {
        const { topic, ns } = step;
        const event = { typeUrl: "t", value: new TextEncoder().encode(`${i} ${topic} ${ns}`) };
        const ctx = Context.background({ namespace: ns });
        const sent = step.forward
          ? exchange.forward(ctx, { timestamp: 1n, namespace: ns, topic, event })
          : exchange.publish(ctx, topic, event);
        const isBad = badTopics.includes(topic);
        assert.strictEqual(await outcome(sent), isBad ? "invalid-argument" : "ok");
        if (isBad) continue;
        for (const one of subscribers) {
          if (one.matches(topic, ns)) one.waiting.push(`${i} ${topic} ${ns}`);
        }
      } else if (step.do === "subscribe") {
        subscribers.push(subscribe(exchange, step));
      } else {
        const one = subscribers[step.nth];
        if (!one) continue;
        if (step.do === "read") await read(one, step.count);
        else {
          one.leave.abort();
          subscribers.splice(step.nth, 1);
          assert.strictEqual((await one.events.next()).done, true);
        }
      }
    }
    for (const one of subscribers) await read(one, one.waiting.length);
    exchange.close();
    for (const { events } of subscribers) assert.strictEqual((await events.next()).done, true);
  },
});
