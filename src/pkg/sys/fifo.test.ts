import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";

import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { FakeSyscalls } from "#pkg/sys/fake.ts";
import { copyStream, fdStream, openFifo, openFifoReader, openFifoWriter } from "#pkg/sys/fifo.ts";
import { linux } from "#pkg/sys/linux.ts";

const ctx = Context.background();
let dir = "";
let path = "";

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sys-fifo-"));
  path = join(dir, "fifo");
  linux.mkfifo(path, 0o600);
});

afterEach(() => {
  rmSync(dir, { recursive: true });
});

test("a reader waits for the first writer and ends after the last", async () => {
  const reader = openFifoReader(linux, path);
  const all = buffer(reader);
  const first = await openFifoWriter(ctx, linux, path);
  const second = await openFifoWriter(ctx, linux, path);
  await new Promise((resolve) => first.end("one ", () => resolve(undefined)));
  second.end("two");
  assert.equal((await all).toString(), "one two");
});

test("a reader of both sides outlives its writers", async () => {
  const reader = openFifoReader(linux, path, "both");
  const chunks = reader[Symbol.asyncIterator]();
  for (const text of ["one", "two"]) {
    const writer = await openFifoWriter(ctx, linux, path);
    writer.end(text);
    assert.equal(String((await chunks.next()).value), text);
  }
  reader.destroy();
});

test("openFifoWriter() waits for a reader without holding a thread of the pool", async () => {
  const writers = Array.from({ length: 6 }, () => openFifoWriter(ctx, linux, path));
  // With the four threads of the pool in blocking opens this would never resolve.
  assert.ok((await stat(path)).isFIFO());
  const reader = openFifoReader(linux, path);
  const all = buffer(reader);
  for (const writer of await Promise.all(writers)) writer.end("x");
  assert.equal((await all).toString(), "xxxxxx");
});

test("openFifoWriter() gives up with its context", async () => {
  const stop = new AbortController();
  const waiting = openFifoWriter(ctx.withSignal(stop.signal), linux, path);
  stop.abort();
  await assert.rejects(waiting, (error) => hasCode(error, "canceled"));
});

test("openFifo() says that nobody reads, and refuses what is no fifo", () => {
  assert.throws(() => openFifo(linux, path, "write"), { errno: "ENXIO" });
  const file = join(dir, "file");
  writeFileSync(file, "");
  assert.throws(
    () => openFifo(linux, file, "read"),
    (error) => hasCode(error, "invalid-argument"),
  );
});

test("openFifo() closes what it refuses", () => {
  const fake = new FakeSyscalls();
  const regular = { ...linux.fstatat(-100, "/proc/self/exe", 0) };
  fake.on("fstatat", () => regular);
  assert.throws(() => openFifo(fake.sys, "/x", "read"), { message: /"\/x" is no fifo/ });
  assert.equal(fake.openFds.size, 0);
});

test("copyStream() moves megabytes through pipes and counts them", async () => {
  const [a, b] = [linux.pipe2(0), linux.pipe2(0)];
  const size = 8 << 20;
  const fill = Readable.from(
    (function* () {
      for (let left = size; left > 0; left -= 65536) yield Buffer.alloc(65536, left >> 16);
    })(),
  );
  const fed = copyStream(ctx, fill, fdStream(a.write, "write"), "end");
  const moved = copyStream(ctx, fdStream(a.read, "read"), fdStream(b.write, "write"), "end");
  const received = await buffer(fdStream(b.read, "read"));
  assert.deepEqual([await fed, await moved, received.length], [size, size, size]);
  assert.equal(received[0], (size >> 16) & 0xff);
});

test("copyStream() reads no further than the sink takes", async () => {
  let produced = 0;
  const source = new Readable({
    highWaterMark: 65536,
    read() {
      produced += 65536;
      this.push(Buffer.alloc(65536));
    },
  });
  const stop = new AbortController();
  const filled = Promise.withResolvers<void>();
  const stuck = new Writable({
    highWaterMark: 65536,
    write() {
      filled.resolve();
    },
  });
  const copying = copyStream(ctx.withSignal(stop.signal), source, stuck, "end");
  await filled.promise;
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(produced <= 8 * 65536, `${produced} bytes were read ahead`);
  stop.abort();
  await assert.rejects(copying, (error) => hasCode(error, "canceled"));
});

test("copyStream() can leave the sink open for a second source", async () => {
  const sink = new PassThrough();
  await copyStream(ctx, Readable.from([Buffer.from("a")]), sink, "keep");
  await copyStream(ctx, Readable.from([Buffer.from("b")]), sink, "end");
  assert.equal((await buffer(sink)).toString(), "ab");
});

test("copyStream() rejects when the reader of its sink has gone", async () => {
  const pipe = linux.pipe2(0);
  linux.close(pipe.read);
  const source = Readable.from([Buffer.alloc(10)]);
  const copying = copyStream(ctx, source, fdStream(pipe.write, "write"), "end");
  await assert.rejects(copying, { code: "EPIPE" });
});

test("copyStream() leaves both streams usable when its context ends", async () => {
  const stop = new AbortController();
  const [source, sink] = [new PassThrough(), new PassThrough()];
  const copying = copyStream(ctx.withSignal(stop.signal), source, sink, "end");
  source.write("a");
  assert.equal(String((await once(sink, "data"))[0]), "a");
  stop.abort();
  await assert.rejects(copying, (error) => hasCode(error, "canceled"));
  const again = copyStream(ctx, source, sink, "end");
  source.end("b");
  assert.equal((await buffer(sink)).toString(), "b");
  assert.equal(await again, 1);
  assert.equal(source.listenerCount("error") + sink.listenerCount("drain"), 0);
});

test("copyStream() rejects when a side is closed, before or meanwhile", async () => {
  const closed = new PassThrough().destroy();
  for (const [source, sink] of [
    [closed, new PassThrough()],
    [new PassThrough(), closed],
  ] as const) {
    const copying = copyStream(ctx, source, sink, "end");
    await assert.rejects(copying, (error) => hasCode(error, "aborted"));
  }
  const source = new PassThrough();
  const copying = copyStream(ctx, source, new PassThrough(), "end");
  source.destroy();
  await assert.rejects(copying, /source is closed/);
});
