import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { notFound } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { serve } from "#pkg/rpc/service.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { CallMetrics } from "./call-metrics.ts";
import { formatMetrics } from "./text.ts";

const ctx = Context.background();
const service = serve(Echo, {
  async unary(_ctx, { count }) {
    if (count === 0) throw notFound("nothing");
    return { count };
  },
  async *both(_ctx, chunks) {
    for await (const { count } of chunks) {
      yield { count };
      yield { count };
    }
  },
});

async function countedCalls(metrics: CallMetrics): Promise<ReadonlyMap<string, string>> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "calls-")));
  const path = join(dir.path, "s");
  const server = stack.use(new GrpcServer({ services: [service], observer: metrics }));
  await server.listen(path, { mode: 0o660 });
  const client = createClient(Echo, stack.use(new GrpcTransport({ path })));
  await client.unary(ctx, { count: 1 });
  await assert.rejects(client.unary(ctx, { count: 0 }));
  const sent = (async function* () {
    yield { count: 1 };
    yield { count: 2 };
    yield { count: 3 };
  })();
  const answers = await Array.fromAsync(client.both(ctx, sent));
  assert.equal(answers.length, 6);
  await stack.disposeAsync();
  const lines = formatMetrics(metrics.collect()).split("\n");
  return new Map(
    lines
      .filter((line) => line.startsWith("grpc"))
      .map((line) => {
        const space = line.lastIndexOf(" ");
        return [line.slice(0, space), line.slice(space + 1)];
      }),
  );
}

const labels = (method: string, type: string): string =>
  `grpc_method="${method}",grpc_service="test.rpc.v1.Echo",grpc_type="${type}"`;

suite("CallMetrics", () => {
  test("calls and their messages are counted by method and status", async () => {
    const counted = await countedCalls(new CallMetrics({ histogram: false }));
    const unary = labels("Unary", "unary");
    const bidi = labels("Both", "bidi_stream");
    assert.deepEqual(Object.fromEntries(counted), {
      [`grpc_server_started_total{${unary}}`]: "2",
      [`grpc_server_handled_total{grpc_code="OK",${unary}}`]: "1",
      [`grpc_server_handled_total{grpc_code="NotFound",${unary}}`]: "1",
      [`grpc_server_msg_received_total{${unary}}`]: "2",
      [`grpc_server_msg_sent_total{${unary}}`]: "1",
      [`grpc_server_started_total{${bidi}}`]: "1",
      [`grpc_server_handled_total{grpc_code="OK",${bidi}}`]: "1",
      [`grpc_server_msg_received_total{${bidi}}`]: "3",
      [`grpc_server_msg_sent_total{${bidi}}`]: "6",
    });
  });

  test("times are measured where asked for, and prepared methods are there from the start", async () => {
    const metrics = new CallMetrics({ histogram: true });
    metrics.prepare([service]);
    const counted = await countedCalls(metrics);
    const unary = labels("Unary", "unary");
    assert.equal(counted.get(`grpc_server_handling_seconds_count{${unary}}`), "2");
    assert.equal(counted.get(`grpc_server_handled_total{grpc_code="DataLoss",${unary}}`), "0");
  });
});
