import assert from "node:assert/strict";
import { test } from "node:test";
import type { HttpClient } from "#core/remotes/http-client.ts";
import { defaultTls } from "#core/remotes/tls-settings.ts";
import { Transports } from "#core/remotes/transports.ts";
import { Context } from "#pkg/context.ts";
import { startFaultServer, status } from "#test/support/registry/fault-server.ts";

const ctx = Context.background();

test("a client goes on when its connections had to make room, and ends with all of them", async () => {
  await using server = await startFaultServer(status(204));
  const transports = new Transports();
  const open = (dialTimeoutMs: number): Promise<HttpClient> => {
    return transports.client({ tls: defaultTls, dialTimeoutMs });
  };
  const ask = async (client: HttpClient): Promise<number> => {
    const answer = await client.send(ctx, {
      method: "GET",
      url: new URL(server.origin),
      headers: {},
    });
    await answer.discard();
    return answer.status;
  };
  const first = await open(1_000);
  assert.equal(await ask(first), 204);
  for (let i = 1; i <= 64; i++) await open(1_000 + i);
  assert.equal(await ask(first), 204);
  assert.equal(await open(1_000), first);
  assert.equal(server.connections(), 2);
  await transports[Symbol.asyncDispose]();
  await assert.rejects(ask(first), { code: "unavailable" });
});
