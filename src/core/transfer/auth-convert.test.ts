import assert from "node:assert/strict";
import { test } from "node:test";
import { AuthResponseSchema, AuthType } from "#api/types/transfer/registry_pb.ts";
import { toAny } from "#core/streaming/convert.ts";
import { streamCredentials } from "#core/transfer/auth-convert.ts";
import { Context } from "#pkg/context.ts";
import { streamPair } from "#test/support/stream-pair.ts";

const ctx = Context.background();
const answer = (secret: string) =>
  toAny(AuthResponseSchema, { authType: AuthType.CREDENTIALS, username: "me", secret });

test("an answer goes to the host that was asked for", async () => {
  const [daemon, client] = streamPair();
  const source = streamCredentials(daemon, "r.invalid/a:1");
  const both = Promise.all([source.get(ctx, "mirror"), source.get(ctx, "origin")]);
  for (const secret of ["first", "second"]) {
    await client.receive(ctx);
    await client.send(ctx, answer(secret));
  }
  assert.deepEqual(
    (await both).map((credentials) => credentials?.secret),
    ["first", "second"],
  );
});

test("an answer that comes late is nobody's, and no other host is asked for", async () => {
  const [daemon, client] = streamPair();
  const source = streamCredentials(daemon, "r.invalid/a:1");
  const controller = new AbortController();
  const first = source.get(ctx.withSignal(controller.signal), "mirror");
  await client.receive(ctx);
  controller.abort();
  await assert.rejects(first, { code: "canceled", message: /credentials of mirror: / });
  await client.send(ctx, answer("of the mirror"));
  await assert.rejects(source.get(ctx, "origin"), {
    code: "unavailable",
    message: /credentials of origin: its answer for mirror was not waited for/,
  });
});

test("one who gives up before its question was sent spoils nothing", async () => {
  const [daemon, client] = streamPair();
  const source = streamCredentials(daemon, "r.invalid/a:1");
  const controller = new AbortController();
  const first = source.get(ctx, "mirror");
  const waiting = source.get(ctx.withSignal(controller.signal), "other");
  await client.receive(ctx);
  controller.abort();
  await assert.rejects(waiting, { code: "canceled" });
  await client.send(ctx, answer("first"));
  assert.equal((await first)?.secret, "first");
  const last = source.get(ctx, "origin");
  await client.receive(ctx);
  await client.send(ctx, answer("last"));
  assert.equal((await last)?.secret, "last");
});
