import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { codeOf, CodedError, notFound } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { createClient } from "./client.ts";
import { type Client, type Handlers, type Service, serve, type Transport } from "./service.ts";
import { Echo } from "./suite-echo.ts";

/** A server and one transport connected to it. */
export interface Wire extends AsyncDisposable {
  readonly transport: Transport;
  /** The server's graceful end. */
  close(options: { timeoutMs: number }): Promise<void>;
}

export interface WireOptions {
  readonly service: Service;
  readonly logger: Logger | undefined;
}

export interface WireTraits {
  /** The largest message the wire carries, without its envelope. */
  readonly messageBytesMax: number;
  /** Whether the server learns of a cancel that leaves the connection up. */
  readonly cancels: boolean;
  readonly leases: boolean;
  /** Whether each stream holds its sender back by itself. */
  readonly flowControl: boolean;
}

/** What both wires promise, so that a service does not know which one it is on. */
export function wireSuite(
  name: string,
  traits: WireTraits,
  make: (options: WireOptions) => Promise<Wire>,
): void {
  const setup = async (
    handlers: Handlers<typeof Echo>,
    logger?: Logger,
  ): Promise<AsyncDisposable & { client: Client<typeof Echo>; wire: Wire }> => {
    const wire = await make({ service: serve(Echo, handlers), logger });
    return {
      wire,
      client: createClient(Echo, wire.transport),
      [Symbol.asyncDispose]: () => wire[Symbol.asyncDispose](),
    };
  };
  const background = Context.background();

  describe(`${name}: unary`, () => {
    test("carries request, response and namespace", async () => {
      await using t = await setup({
        unary: async (ctx, { text, count }) => ({ text: `${ctx.namespace}/${text}`, count }),
      });
      const ctx = background.withNamespace("k8s.io");
      const response = await t.client.unary(ctx, { text: "hello", count: 7 });
      assert.equal(response.text, "k8s.io/hello");
      assert.equal(response.count, 7);
      assert.equal((await t.client.unary(background, {})).text, "undefined/");
    });

    test("carries the lease where the wire has one", async () => {
      await using t = await setup({ unary: async (ctx) => ({ text: ctx.lease ?? "none" }) });
      const response = await t.client.unary(background.withLease("l1"), {});
      assert.equal(response.text, traits.leases ? "l1" : "none");
    });

    test("carries code and words of an error", async () => {
      await using t = await setup({
        unary: async (_ctx, { text }) => {
          throw text === "plain" ? new Error("no such luck: ü\n%") : notFound(`image "${text}"`);
        },
      });
      await assert.rejects(t.client.unary(background, { text: "x" }), {
        code: "not-found",
        message: 'image "x": not found',
      });
      await assert.rejects(t.client.unary(background, { text: "plain" }), {
        code: "unknown",
        message: "no such luck: ü\n%",
      });
    });

    test("logs an error without a code, and no other", async () => {
      const lines: unknown[] = [];
      const logger = recorder(lines);
      const cause = new Error("disk on fire");
      await using t = await setup(
        {
          unary: async (_ctx, { text }) => {
            throw text === "plain" ? new Error("write", { cause }) : notFound("x");
          },
        },
        logger,
      );
      await assert.rejects(t.client.unary(background, {}));
      await assert.rejects(t.client.unary(background, { text: "plain" }));
      assert.equal(lines.length, 1);
      assert.equal((lines[0] as { error: Error }).error.cause, cause);
    });

    test("answers a method without a handler not-implemented", async () => {
      await using t = await setup({});
      await assert.rejects(t.client.missing(background, {}), { code: "not-implemented" });
    });

    test("ends at the deadline on both sides", async () => {
      const ended = Promise.withResolvers<unknown>();
      await using t = await setup({
        unary: async (ctx) => {
          assert.ok(ctx.deadlineMs !== undefined && ctx.deadlineMs > Date.now());
          await once(ctx.signal, "abort");
          ended.resolve(ctx.signal.reason);
          return {};
        },
      });
      await assert.rejects(t.client.unary(background.withTimeout(50), {}), {
        code: "deadline-exceeded",
      });
      const code = codeOf(await ended.promise);
      // The caller's own clock may cancel before the server's strikes.
      assert.ok(code === "deadline-exceeded" || (traits.cancels && code === "canceled"), code);
    });

    test("gives up when the caller cancels", async () => {
      const started = Promise.withResolvers<Context>();
      const finish = Promise.withResolvers<void>();
      await using t = await setup({
        unary: async (ctx) => {
          started.resolve(ctx);
          await finish.promise;
          return {};
        },
      });
      const cancel = new AbortController();
      const call = t.client.unary(background.withSignal(cancel.signal), {});
      const { signal } = await started.promise;
      cancel.abort();
      await assert.rejects(call, { code: "canceled" });
      if (traits.cancels && !signal.aborted) await once(signal, "abort");
      finish.resolve();
    });

    test("refuses a call whose context has ended", async () => {
      await using t = await setup({ unary: async () => ({}) });
      const ctx = background.withSignal(AbortSignal.abort());
      await assert.rejects(t.client.unary(ctx, {}), { code: "canceled" });
    });

    test("carries many calls at once, answered in any order", async () => {
      await using t = await setup({
        unary: async (_ctx, { count }) => {
          if (count % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
          return { count };
        },
      });
      const counts = Array.from({ length: 1000 }, (_, i) => i);
      const answers = await Promise.all(
        counts.map((count) => t.client.unary(background, { count })),
      );
      assert.deepEqual(
        answers.map(({ count }) => count),
        counts,
      );
    });

    test("carries the largest message and refuses a larger one, and goes on", async () => {
      await using t = await setup({
        unary: async (_ctx, { count, data }) => ({
          data: new Uint8Array(count),
          count: data.length,
        }),
      });
      const max = traits.messageBytesMax - 64;
      const there = await t.client.unary(background, { data: new Uint8Array(max) });
      assert.equal(there.count, max);
      const back = await t.client.unary(background, { count: max });
      assert.equal(back.data.length, max);
      const tooLarge = traits.messageBytesMax + 1;
      await assert.rejects(t.client.unary(background, { data: new Uint8Array(tooLarge) }), {
        code: "resource-exhausted",
      });
      await assert.rejects(t.client.unary(background, { count: tooLarge }), {
        code: "resource-exhausted",
      });
      assert.equal((await t.client.unary(background, { count: 1 })).data.length, 1);
    });
  });

  describe(`${name}: streams`, () => {
    const echo: Handlers<typeof Echo> = {
      async *down(_ctx, { count, data }) {
        for (let i = 0; i < count; i++) yield { count: i, data };
      },
      up: async (_ctx, requests) => {
        let count = 0;
        for await (const request of requests) count += request.count;
        return { count };
      },
      async *both(_ctx, requests) {
        for await (const { count, data } of requests) yield { count: count + 1, data };
      },
      unary: async (_ctx, { count }) => ({ count }),
    };

    test("a server stream arrives whole and in order", async () => {
      await using t = await setup(echo);
      const counts: number[] = [];
      for await (const { count } of t.client.down(background, { count: 500 })) counts.push(count);
      assert.deepEqual(
        counts,
        Array.from({ length: 500 }, (_, i) => i),
      );
    });

    test("a client stream is answered once it ends", async () => {
      await using t = await setup(echo);
      const response = await t.client.up(background, countTo(100));
      assert.equal(response.count, 4950);
    });

    test("a bidirectional stream carries both ways, empty messages too", async () => {
      await using t = await setup(echo);
      const counts: number[] = [];
      for await (const { count } of t.client.both(background, countTo(200))) counts.push(count);
      assert.equal(counts.length, 200);
      assert.equal(counts[0], 1);
    });

    test("an empty stream each way", async () => {
      await using t = await setup(echo);
      for await (const _ of t.client.both(background, countTo(0))) assert.fail("no message");
      for await (const _ of t.client.down(background, {})) assert.fail("no message");
      assert.equal((await t.client.up(background, countTo(0))).count, 0);
    });

    test("messages before an error arrive, then the error", async () => {
      await using t = await setup({
        async *down() {
          yield { count: 1 };
          throw notFound("the rest");
        },
      });
      const counts: number[] = [];
      await assert.rejects(
        async () => {
          for await (const { count } of t.client.down(background, {})) counts.push(count);
        },
        { code: "not-found", message: "the rest: not found" },
      );
      assert.deepEqual(counts, [1]);
    });

    test("an error before the first message arrives", async () => {
      await using t = await setup({
        both: () => failsAtOnce(notFound("all")),
        up: async () => {
          throw notFound("all");
        },
      });
      const call = async (): Promise<void> => {
        for await (const _ of t.client.both(background, never())) assert.fail("no message");
      };
      await assert.rejects(call, { code: "not-found" });
      await assert.rejects(t.client.up(background, never()), { code: "not-found" });
    });

    test("a reader that leaves early ends the call and nothing else", async () => {
      await using t = await setup(echo);
      for await (const { count } of t.client.down(background, { count: 60 })) {
        if (count === 3) break;
      }
      assert.equal((await t.client.unary(background, { count: 5 })).count, 5);
    });

    test("a reader that leaves a bidirectional stream ends the handler's requests", async () => {
      const ended = Promise.withResolvers<void>();
      await using t = await setup({
        async *both(_ctx, requests) {
          try {
            yield { count: 1 };
            for await (const _ of requests) yield { count: 2 };
          } finally {
            ended.resolve();
          }
        },
      });
      for await (const _ of t.client.both(background, never())) break;
      await ended.promise;
    });

    test("a cancel ends a stream that waits", async () => {
      await using t = await setup({
        async *down(ctx) {
          yield {};
          await once(ctx.signal, "abort");
        },
      });
      const cancel = new AbortController();
      const read = async (): Promise<void> => {
        for await (const _ of t.client.down(background.withSignal(cancel.signal), {})) {
          cancel.abort();
        }
      };
      await assert.rejects(read, { code: "canceled" });
    });

    test("a stalled reader does not hold others up", async () => {
      await using t = await setup(echo);
      const data = new Uint8Array(256 << 10);
      const stalled = t.client.down(background, { count: 40, data })[Symbol.asyncIterator]();
      assert.equal((await stalled.next()).done, false);
      for (let count = 0; count < 50; count++) {
        assert.equal((await t.client.unary(background, { count })).count, count);
      }
      await stalled.return?.();
    });

    test("what the caller's requests throw ends the call", async () => {
      await using t = await setup(echo);
      const failing = async function* (): AsyncGenerator<{ count: number }> {
        yield { count: 1 };
        throw new CodedError("data-loss", "source broke");
      };
      await assert.rejects(t.client.up(background, failing()), { code: "data-loss" });
    });
    if (!traits.flowControl) return;
    const data = new Uint8Array(1 << 20);
    const endless = 1000;

    test("a handler is asked for no more than its reader takes", async () => {
      let given = 0;
      await using t = await setup({
        ...echo,
        async *down() {
          for (; given < endless; given++) yield { data };
        },
      });
      const reader = t.client.down(background, {})[Symbol.asyncIterator]();
      await reader.next();
      // Time enough for a server that does not wait to run away.
      for (let i = 0; i < 200; i++) await t.client.unary(background, {});
      assert.ok(given < 50, `${given} messages given for one taken`);
      await reader.return?.();
    });

    test("a caller is asked for no more than the handler takes", async () => {
      let given = 0;
      const finish = Promise.withResolvers<void>();
      await using t = await setup({
        ...echo,
        up: async () => {
          await finish.promise;
          return {};
        },
      });
      const requests = async function* (): AsyncGenerator<{ data: Uint8Array }> {
        for (; given < endless; given++) yield { data };
      };
      const call = t.client.up(background, requests());
      for (let i = 0; i < 200; i++) await t.client.unary(background, {});
      assert.ok(given < 50, `${given} messages given for none taken`);
      finish.resolve();
      await call;
    });
  });

  describe(`${name}: the end of a connection`, () => {
    test("a lost connection fails pending calls unavailable and ends their handlers", async () => {
      const started = Promise.withResolvers<Context>();
      await using t = await setup({
        unary: async (ctx) => {
          started.resolve(ctx);
          await once(ctx.signal, "abort");
          return {};
        },
      });
      const call = t.client.unary(background, {});
      const { signal } = await started.promise;
      const aborted = once(signal, "abort");
      await Promise.all([
        assert.rejects(call, { code: "unavailable" }),
        t.wire.transport.close(),
        aborted,
      ]);
      await assert.rejects(t.client.unary(background, {}), { code: "unavailable" });
    });

    test("close() lets a running call finish", async () => {
      const started = Promise.withResolvers<void>();
      const finish = Promise.withResolvers<void>();
      await using t = await setup({
        unary: async () => {
          started.resolve();
          await finish.promise;
          return { text: "done" };
        },
      });
      const call = t.client.unary(background, {});
      await started.promise;
      const closed = t.wire.close({ timeoutMs: 60_000 });
      finish.resolve();
      assert.equal((await call).text, "done");
      await closed;
    });

    test("close() cuts off a call that does not end", async () => {
      const started = Promise.withResolvers<Context>();
      await using t = await setup({
        unary: async (ctx) => {
          started.resolve(ctx);
          await once(ctx.signal, "abort");
          return {};
        },
      });
      const call = t.client.unary(background, {});
      await started.promise;
      await Promise.all([
        assert.rejects(call, { code: "unavailable" }),
        t.wire.close({ timeoutMs: 20 }),
      ]);
    });
  });
}

async function* countTo(end: number): AsyncGenerator<{ count: number }> {
  for (let count = 0; count < end; count++) yield { count };
}

function failsAtOnce(error: Error): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
}

async function* never(): AsyncGenerator<{ count: number }> {
  await new Promise<never>(() => {});
  yield { count: 0 };
}

function recorder(lines: unknown[]): Logger {
  const logger: Logger = {
    trace() {},
    debug() {},
    info() {},
    warn() {},
    error(_message, fields) {
      lines.push(fields);
    },
    with: () => logger,
  };
  return logger;
}
