import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { MetricRegistry } from "#core/metrics/registry.ts";
import { Context } from "#pkg/context.ts";
import { MetricsListener, parseTcpAddress } from "./metrics.ts";

suite("metrics server", () => {
  test("parseTcpAddress() takes what Go's listeners take", () => {
    assert.deepEqual(parseTcpAddress("127.0.0.1:1338"), { host: "127.0.0.1", port: 1338 });
    assert.deepEqual(parseTcpAddress(":1338"), { host: undefined, port: 1338 });
    assert.deepEqual(parseTcpAddress("[::1]:0"), { host: "::1", port: 0 });
  });

  for (const address of ["", "1338", "::1:1338", "host:70000", "host:-1", "host:http", "[::1]"]) {
    test(`parseTcpAddress() refuses ${JSON.stringify(address)}`, () => {
      assert.throws(() => parseTcpAddress(address), /is not host:port/);
    });
  }

  test("an address in use is told, and disposing frees it", async () => {
    const ctx = Context.background();
    const registry = new MetricRegistry();
    const value = { labels: {}, value: 1 };
    const failing = { collect: () => Promise.reject(new Error("broken")) };
    registry.register(failing);
    registry.register({
      collect: () => [{ name: "m", help: "h", type: "gauge", samples: [value] }],
    });
    const first = new MetricsListener("127.0.0.1:31337", registry);
    await first.start(ctx);
    const second = new MetricsListener("127.0.0.1:31337", registry);
    await assert.rejects(second.start(ctx), /failed to get listener for metrics endpoint/);
    const answer = await fetch("http://127.0.0.1:31337/v1/metrics");
    assert.equal(answer.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert.equal(await answer.text(), "# HELP m h\n# TYPE m gauge\nm 1\n");
    const other = await fetch("http://127.0.0.1:31337/");
    assert.deepEqual([other.status, await other.text()], [404, "404 page not found\n"]);
    await first[Symbol.asyncDispose]();
    await second.start(ctx);
    await second[Symbol.asyncDispose]();
  });
});
