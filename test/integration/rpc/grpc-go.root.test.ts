import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { run } from "#test/support/command.ts";
import { whyNot } from "#test/support/needs.ts";
import { echoService } from "./echo.ts";
import { buildGoClient } from "./go-client.ts";

const skip = whyNot(["go"]);

describe("a grpc-go client", { skip: skip ?? false }, () => {
  let current = "";
  let old = "";
  before(async () => {
    current = await buildGoClient("grpc-go");
    old = await buildGoClient("grpc-go-old");
  });

  const serveFor = async (command: (path: string) => string[]): Promise<void> => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "grpc-go-")));
    const path = join(dir.path, "s");
    const server = stack.use(new GrpcServer());
    server.add(echoService(() => void server.close()));
    await server.listen(path, { mode: 0o600 });
    const { code, stdout, stderr } = await run(command(path), { timeoutMs: 120_000 });
    assert.equal(`${stdout}${stderr}`, "");
    assert.equal(code, 0);
  };
  const scenario = (name: string): Promise<void> => serveFor((path) => [current, name, path]);

  test("talks on a thousand streams at once", () => scenario("streams"));
  test("cancels and misses deadlines by the thousand and loses no other call", () =>
    scenario("cancels"));
  test("calls beside a stream that it does not read", () => scenario("stalled"));
  test("sends and gets 64 MiB in chunks", () => scenario("blob"));
  test("sends gzip, is told of a bomb and of an encoding that nobody knows", () =>
    scenario("gzip"));
  test("is served whatever it sends as authority", () => scenario("authority"));
  test("of the time when plain paths were dialed is served", () => serveFor((path) => [old, path]));
  test("connects two hundred times at once", () => scenario("connections"));
  test("has its namespace, lease and 60 KiB of metadata read", () => scenario("metadata"));
  test("reads statuses, details and limits in the words it knows", () => scenario("errors"));
  test("has its call finished by a server that closes", () => scenario("drain"));
});
