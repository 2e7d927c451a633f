import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Transport } from "#pkg/rpc/service.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { whyNot } from "#test/support/needs.ts";
import { buildGoClient } from "./go-client.ts";

const ctx = Context.background();
const transports: Record<string, (path: string) => Promise<Transport>> = {
  ttrpc: (path) => TtrpcTransport.connect(ctx, path),
  grpc: async (path) => new GrpcTransport({ path }),
};
const skip = whyNot(["go"]) ?? false;

for (const [wire, open] of Object.entries(transports)) {
  test(`a process serves ${wire} on the socket it was started with`, { skip }, async () => {
    const program = await buildGoClient("grpc-go");
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "listen-fd-")));
    const path = join(dir.path, "s");
    const server = join(import.meta.dirname, "listen-fd-server.ts");
    const child = spawn(program, ["listen", path, process.execPath, server, wire], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    stack.defer(() => void child.stdin.end());
    await once(child.stdout, "data");
    const transport = stack.use(await open(path));
    const { count } = await createClient(Echo, transport).unary(ctx.withTimeout(10_000), {});
    assert.ok(count > 0);
    await transport.close();
    child.stdin.end();
    assert.deepEqual(await exited, [0, null]);
    // The file is not the server's to remove.
    assert.deepEqual(await readdir(dir.path), ["s"]);
  });
}
