import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, describe, test } from "node:test";
import zlib from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import type { ContentReader, ContentStore } from "#core/content/content.ts";
import type { StreamProcessor } from "#core/diff/stream-processors.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf } from "#pkg/digest.ts";
import { CodedError, codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { WalkingDiffer } from "#plugins/differ/walking/walking-differ.ts";
import { descendantsOf, until } from "#test/support/processes.ts";
import { type Bench, ctx, openBench } from "./bench.ts";
import { file, layerOf, needsRoot } from "./layer.ts";

const tar = "application/vnd.oci.image.layer.v1.tar";
const layer = layerOf(file("a", "hello"), file("big", "x".repeat(3_000_000)));
const reaper = new Reaper({ sys: linux, mode: "known" });
after(() => reaper.close());

/** Of a shell script; what it reads is accepted under its id. */
function script(id: string, text: string, returns: string = tar): StreamProcessor {
  return { id, accepts: [id], returns, path: "sh", args: ["-c", text], env: ["GREETING=hi"] };
}

const flipBack = "LC_ALL=C tr '\\001-\\377\\000' '\\000-\\377'";

function flipped(bytes: Buffer): Buffer {
  return Buffer.from(bytes.map((byte) => (byte + 1) & 0xff));
}

interface Trial {
  readonly bench: Bench;
  apply(blob: Buffer, mediaType: string, options?: ApplyMore): Promise<Descriptor>;
  /** The tree of the last blob that was applied. */
  readonly root: string;
}

interface ApplyMore {
  readonly signal?: AbortSignal;
  readonly payloads?: Readonly<Record<string, { typeUrl: string; value: Uint8Array }>>;
  /** From a store that has no files. */
  readonly streamed?: boolean;
  readonly readFailure?: Error;
}

async function trial(
  stack: AsyncDisposableStack,
  ...all: readonly StreamProcessor[]
): Promise<Trial> {
  const bench = stack.use(await openBench("native"));
  const workers = stack.use(new TreeWorkers());
  const env = { PATH: "/usr/bin:/bin", HOST: "daemon" };
  const host = { sys: linux, spawn: spawnProcess, reaper, env };
  const root = path.join(bench.dir, "applied");
  await mkdir(root);
  const added = new Set<string>();
  return {
    bench,
    root,
    async apply(blob, mediaType, { signal, payloads = {}, streamed = false, readFailure } = {}) {
      const from = streamed ? withoutFiles(bench.content, readFailure) : bench.content;
      const { mounter } = bench;
      const parts = { content: from, mounter, workers, inUserNamespace: false };
      const differ = new WalkingDiffer({ ...parts, processors: { all, host } });
      const mounts = [{ type: "bind", source: root, target: "", options: ["rw", "rbind"] }];
      const scoped = signal ? ctx.withSignal(signal) : ctx;
      const digest = digestOf(blob);
      const described = { mediaType, digest, sizeBytes: blob.length, annotations: {} };
      if (!added.has(digest)) await bench.add(blob, mediaType);
      added.add(digest);
      return differ.apply(scoped, described, mounts, { payloads });
    },
  };
}

function withoutFiles(content: ContentStore, failure: Error | undefined): ContentStore {
  const open: ContentStore["open"] = async (c, digest) => {
    const inner = await content.open(c, digest);
    return {
      sizeBytes: inner.sizeBytes,
      path: undefined,
      read: (offset, length) => inner.read(offset, length),
      async *stream(range) {
        yield* inner.stream(range);
        if (failure) throw failure;
      },
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    } satisfies ContentReader;
  };
  return new Proxy(content, {
    get(target, key) {
      if (key === "open") return open;
      const value: unknown = Reflect.get(target, key, target);
      // -- a method of the store, bound to it
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

describe("the walking differ sends a blob through stream processors", { skip: needsRoot }, () => {
  for (const streamed of [false, true]) {
    const from = streamed ? "a stream" : "a file";
    test(`from ${from}, one after the other, to a layer that may be compressed`, async () => {
      await using stack = new AsyncDisposableStack();
      const two = await trial(
        stack,
        script("x/second", flipBack, `${tar}+gzip`),
        script("x/first", flipBack, "x/second"),
      );
      const blob = flipped(flipped(zlib.gzipSync(layer)));
      const applied = await two.apply(blob, "x/first", { streamed });
      assert.equal(applied.mediaType, tar);
      assert.equal(applied.digest, digestOf(layer));
      assert.equal(applied.sizeBytes, layer.length);
      assert.equal(readFileSync(path.join(two.root, "a"), "utf8"), "hello");
      assert.deepEqual(await descendantsOf(process.pid), []);
    });
  }

  test("which know the media type, their environment and their payload", async () => {
    await using stack = new AsyncDisposableStack();
    const tell =
      'echo "$STREAM_PROCESSOR_MEDIATYPE $GREETING $HOST" >&2; base64 <&3 >&2; cat; exit 1';
    const one = await trial(stack, script("x/told", tell));
    const payload = { typeUrl: "example.com/keys", value: new Uint8Array([1, 2, 3]) };
    const bytes = toBinary(AnySchema, create(AnySchema, payload));
    const payloads = { "x/told": payload, other: payload };
    await assert.rejects(one.apply(layer, "x/told", { payloads }), {
      message:
        "stream processor x/told: exit status 1: x/told hi daemon\n" +
        Buffer.from(bytes).toString("base64"),
    });
  });

  test("which have no fourth descriptor without a payload", async () => {
    await using stack = new AsyncDisposableStack();
    const text = "if [ -e /proc/$$/fd/3 ]; then exit 4; fi; cat";
    const one = await trial(stack, script("x/fds", text));
    await one.apply(layer, "x/fds");
    const payload = { typeUrl: "", value: new Uint8Array(1 << 20) };
    await assert.rejects(one.apply(layer, "x/fds", { payloads: { "x/fds": payload } }), {
      message: "stream processor x/fds: exit status 4",
    });
  });

  test("and says what one that failed wrote to its standard error", async () => {
    await using stack = new AsyncDisposableStack();
    const bad = script("x/bad", "head -c 100; echo no key for it >&2; exit 3", "x/next");
    const one = await trial(stack, bad, script("x/next", "cat"));
    for (const streamed of [false, true]) {
      await assert.rejects(one.apply(layer, "x/bad", { streamed }), {
        message: "stream processor x/bad: exit status 3: no key for it",
      });
    }
    assert.deepEqual(await descendantsOf(process.pid), []);
  });

  test("whose failure is told although what it wrote was a whole layer", async () => {
    await using stack = new AsyncDisposableStack();
    const one = await trial(
      stack,
      script("x/late", "cat; exit 1"),
      script("x/sig", "cat; kill -9 $$"),
    );
    await assert.rejects(one.apply(layer, "x/late"), {
      message: "stream processor x/late: exit status 1",
    });
    await assert.rejects(one.apply(layer, "x/sig"), {
      message: "stream processor x/sig: signal 9",
    });
  });

  test("and a blob that could not be read to its end is no layer", async () => {
    await using stack = new AsyncDisposableStack();
    const one = await trial(stack, script("x/cat", "cat"));
    const readFailure = new CodedError("data-loss", "the disk is broken");
    await assert.rejects(
      one.apply(layer, "x/cat", { streamed: true, readFailure }),
      (error: Error) => codeOf(error) === "data-loss" && /disk is broken/.test(error.message),
    );
  });

  test("which need not read all of it", async () => {
    await using stack = new AsyncDisposableStack();
    const one = await trial(stack, script("x/head", `exec head -c ${layer.length}`));
    const blob = Buffer.concat([layer, Buffer.alloc(8_000_000)]);
    const applied = await one.apply(blob, "x/head", { streamed: true });
    assert.equal(applied.digest, digestOf(layer));
  });

  test("and kills them with all they started when the call is cancelled", async () => {
    await using stack = new AsyncDisposableStack();
    const one = await trial(stack, script("x/hang", `cat >/dev/null & sleep 1000 & wait`));
    const cancel = new AbortController();
    const applying = one.apply(layer, "x/hang", { signal: cancel.signal });
    await until("it runs", async () => (await descendantsOf(process.pid)).length >= 2);
    cancel.abort();
    await assert.rejects(applying, (error) => codeOf(error) === "canceled");
    await until("all are gone", async () => (await descendantsOf(process.pid)).length === 0);
  });

  test("and kills one that goes on when its output is no layer", async () => {
    await using stack = new AsyncDisposableStack();
    const one = await trial(stack, script("x/junk", "yes; sleep 1000"));
    await assert.rejects(one.apply(layer, "x/junk"), /tar|header|checksum/);
    await until("it is gone", async () => (await descendantsOf(process.pid)).length === 0);
  });

  test("and names a program that is not there", async () => {
    await using stack = new AsyncDisposableStack();
    const none = { ...script("x/none", ""), path: "no-such-decoder" };
    const gone = { ...script("x/gone", ""), path: "/no/such/decoder" };
    const one = await trial(stack, none, gone);
    await assert.rejects(one.apply(layer, "x/none"), {
      message: 'exec: "no-such-decoder": executable file not found in $PATH',
    });
    await assert.rejects(one.apply(layer, "x/gone"), {
      message:
        "failed to start stream processor x/gone: fork/exec /no/such/decoder: no such file or directory",
    });
  });
});
