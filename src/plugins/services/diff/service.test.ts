import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { ApplyOptions, CompareOptions, Differ } from "#core/diff/diff.ts";
import { GrpcDiffer } from "#core/diff/proxy.ts";
import type { Mount } from "#core/mount/mount.ts";
import { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf } from "#pkg/digest.ts";
import { codeOf, failedPrecondition, notImplemented } from "#pkg/errors.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { diffServiceOf } from "#plugins/services/diff/service.ts";

const ctx = Context.background().withNamespace("test");
const mount = { type: "bind", source: "/s", target: "t", options: ["ro", "rbind"] };

function descriptor(text: string): Descriptor {
  return { mediaType: text, digest: digestOf(text), sizeBytes: 3, annotations: { a: "1" } };
}

/** Answers with its name, or fails; notes what it was given. */
class FakeDiffer implements Differ {
  readonly applied: ApplyOptions[] = [];
  readonly compared: CompareOptions[] = [];
  readonly mounts: (readonly Mount[])[] = [];
  readonly #name: string;
  readonly #failure: Error | undefined;

  constructor(name: string, failure?: Error) {
    this.#name = name;
    this.#failure = failure;
  }

  async apply(...given: Parameters<Differ["apply"]>): Promise<Descriptor> {
    const [, , mounts, options = {}] = given;
    this.mounts.push(mounts);
    this.applied.push(options);
    return this.#answer();
  }

  async compare(...given: Parameters<Differ["compare"]>): Promise<Descriptor> {
    const [, lower, upper, options = {}] = given;
    this.mounts.push(lower, upper);
    this.compared.push(options);
    return this.#answer();
  }

  #answer(): Descriptor {
    if (this.#failure) throw this.#failure;
    return descriptor(this.#name);
  }
}

async function serve(
  t: TestContext,
  differs: readonly Differ[],
  { syncFs = false } = {},
): Promise<GrpcDiffer> {
  const dir = await mkdtemp(join(tmpdir(), "diff-service-"));
  const server = new GrpcServer({ services: [diffServiceOf({ differs, syncFs })] });
  await server.listen(join(dir, "s"), { mode: 0o600 });
  const transport = new GrpcTransport({ path: join(dir, "s") });
  t.after(async () => {
    await transport.close();
    await server[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });
  return new GrpcDiffer(transport);
}

test("the first differ that implements it does it, in the configured order", async (t) => {
  const [first, second] = [new FakeDiffer("first", notImplemented("no")), new FakeDiffer("second")];
  const third = new FakeDiffer("third");
  const client = await serve(t, [first, second, third]);
  assert.deepEqual(await client.apply(ctx, descriptor("x"), [mount]), descriptor("second"));
  assert.deepEqual(await client.compare(ctx, [mount], []), descriptor("second"));
  const asked = [first, second, third].map(
    ({ applied, compared }) => applied.length + compared.length,
  );
  assert.deepEqual(asked, [2, 2, 0]);
});

test("a failure is the differ's own, and nobody's when none implements it", async (t) => {
  const broken = new FakeDiffer("broken", failedPrecondition("broken disk"));
  const other = new FakeDiffer("other");
  const client = await serve(t, [broken, other]);
  await assert.rejects(client.apply(ctx, descriptor("x"), []), {
    message: "broken disk: failed precondition",
  });
  assert.deepEqual(other.applied, []);
  const none = await serve(t, [new FakeDiffer("a", notImplemented("unsupported: x"))]);
  await assert.rejects(none.compare(ctx, [], []), (error: Error) => {
    assert.match(error.message, /^unsupported: x: not implemented/);
    return codeOf(error) === "not-implemented";
  });
  await assert.rejects((await serve(t, [])).compare(ctx, [], []), /no differ/);
});

test("what the call says reaches the differ, and what it leaves out is left out", async (t) => {
  const differ = new FakeDiffer("d");
  const client = await serve(t, [differ]);
  const payloads = { p: { typeUrl: "t", value: new Uint8Array([1]) } };
  await client.apply(ctx, descriptor("x"), [mount], { payloads, syncFs: true });
  await client.apply(ctx, descriptor("x"), []);
  const sourceDateEpoch = 1_000_000_000_500_000_000n;
  const options = { mediaType: "m", ref: "r", labels: { l: "1" }, sourceDateEpoch };
  await client.compare(ctx, [mount], [mount, mount], options);
  await client.compare(ctx, [], []);
  const [applied, bare] = differ.applied;
  assert.deepEqual([applied?.syncFs, applied?.payloads?.["p"]?.typeUrl], [true, "t"]);
  assert.deepEqual(bare, { payloads: {}, syncFs: false });
  assert.deepEqual(differ.compared, [
    options,
    { mediaType: undefined, ref: undefined, labels: {}, sourceDateEpoch: undefined },
  ]);
  assert.deepEqual(differ.mounts, [[mount], [], [mount], [mount, mount], [], []]);
});

test("sync_fs of the configuration syncs for every client", async (t) => {
  const differ = new FakeDiffer("d");
  await (await serve(t, [differ], { syncFs: true })).apply(ctx, descriptor("x"), []);
  assert.deepEqual(
    differ.applied.map(({ syncFs }) => syncFs),
    [true],
  );
});
