import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { run } from "#test/support/command.ts";
import { whyNot } from "#test/support/needs.ts";
import { echoService } from "./echo.ts";
import { buildGoClient } from "./go-client.ts";

const skip = whyNot(["go"]);
let program = "";

describe("a Go ttrpc client", { skip: skip ?? false }, () => {
  before(async () => {
    program = await buildGoClient("grpc-go");
  });

  const scenario = async (name: string): Promise<void> => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-go-")));
    const path = join(dir.path, "s");
    const server = stack.use(new TtrpcServer({ services: [echoService(() => undefined)] }));
    await server.listen(path, { mode: 0o600 });
    // What it logs is an answer that came after its deadline.
    const { code, stdout } = await run([program, name, path]);
    assert.equal(stdout, "");
    assert.equal(code, 0);
  };

  test("calls each kind of method", () => scenario("ttrpc"));
  test("has the one stream ended that its handler does not read", () =>
    scenario("ttrpc-streamful"));
});

describe("a Go ttrpc server", { skip: skip ?? false }, () => {
  before(async () => {
    program = await buildGoClient("grpc-go");
  });

  const background = Context.background();
  const setup = async (): Promise<
    AsyncDisposable & { transport: TtrpcTransport; client: Client<typeof Echo> }
  > => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-go-")));
    const path = join(dir.path, "s");
    const child = spawn(program, ["ttrpc-serve", path], { stdio: ["pipe", "pipe", "inherit"] });
    const exited = once(child, "exit");
    stack.defer(async () => {
      child.stdin.end();
      await exited;
    });
    await once(child.stdout, "data");
    const transport = stack.use(await TtrpcTransport.connect(background, path));
    const owned = stack.move();
    return {
      transport,
      client: createClient(Echo, transport),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  };
  const bytes = (text: string): { data: Uint8Array } => ({ data: Buffer.from(text) });

  test("answers unary calls, with namespace, errors and deadlines", async () => {
    await using t = await setup();
    const named = await t.client.unary(background.withNamespace("k8s.io"), bytes("namespace"));
    assert.equal(Buffer.from(named.data).toString(), "k8s.io");
    await assert.rejects(t.client.unary(background, bytes("fail")), {
      code: "already-exists",
      message: "task x: already exists",
    });
    const late = background.withTimeout(50);
    await assert.rejects(t.client.unary(late, bytes("deadline")), { code: "deadline-exceeded" });
    const many = await Promise.all(
      Array.from({ length: 300 }, (_, i) => t.client.unary(background, bytes(`${i}`))),
    );
    assert.equal(Buffer.from(many[299]?.data ?? []).toString(), "299");
  });

  test("streams down, up and both ways", async () => {
    await using t = await setup();
    let count = 0;
    for await (const { data } of t.client.down(background, bytes("x".repeat(1000)))) {
      assert.equal(data.length, 1000);
      count++;
    }
    assert.equal(count, 50);
    const three = async function* (): AsyncGenerator<{ data: Uint8Array }> {
      for (const text of ["a", "", "ccc"]) yield bytes(text);
    };
    const total = await t.client.up(background, three());
    assert.equal(Buffer.from(total.data).toString(), "4");
    const echoed: string[] = [];
    for await (const { data } of t.client.both(background, three())) {
      echoed.push(Buffer.from(data).toString());
    }
    assert.deepEqual(echoed, ["a", "", "ccc"]);
  });

  test("that dies fails its calls with the words of a closed connection", async () => {
    await using t = await setup();
    const pending = t.client.unary(background.withTimeout(60_000), bytes("deadline"));
    await Promise.all([
      assert.rejects(pending, { code: "unavailable", message: "ttrpc: closed" }),
      assert.rejects(t.client.unary(background, bytes("die")), { code: "unavailable" }),
      t.transport.closed,
    ]);
  });
});
