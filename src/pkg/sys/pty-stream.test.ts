import assert from "node:assert/strict";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { PassThrough } from "node:stream";
import { test } from "node:test";

import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { O } from "#pkg/sys/constants.ts";
import { copyStream } from "#pkg/sys/fifo.ts";
import { linux } from "#pkg/sys/linux.ts";
import { PtyStream } from "#pkg/sys/pty-stream.ts";

/** Opens the terminal's own side, without making it ours. */
function openTerminal(path: string): number {
  return openSync(path, O.RDWR | O.NOCTTY);
}

async function ticks(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("it reads what is printed and ends at the hang-up", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  const stream = new PtyStream(linux, master);
  const all = text(stream);
  writeSync(terminal, "hello\nworld\n");
  closeSync(terminal);
  assert.equal(await all, "hello\r\nworld\r\n");
  stream.destroy();
});

test("what is written becomes input, and is echoed", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  const stream = new PtyStream(linux, master);
  await new Promise((resolve) => stream.write("abc\n", resolve));
  const input = Buffer.alloc(10);
  assert.equal(input.toString("utf8", 0, readSync(terminal, input)), "abc\n");
  const echo = await new Promise((resolve) => stream.once("data", resolve));
  assert.equal(String(echo), "abc\r\n");
  closeSync(terminal);
  stream.destroy();
});

test("nothing is read before a terminal is opened, and that is no end", async () => {
  const { master, path } = linux.openPty();
  const stream = new PtyStream(linux, master);
  let ended = false;
  stream.once("end", () => {
    ended = true;
  });
  const all = text(stream);
  await ticks(20);
  assert.equal(ended, false);
  const terminal = openTerminal(path);
  writeSync(terminal, "late");
  closeSync(terminal);
  assert.equal(await all, "late");
  stream.destroy();
});

test("a program that reads no input stops no event loop, and gets it all", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  const stream = new PtyStream(linux, master);
  stream.resume();
  const line = `${"x".repeat(99)}\n`;
  const lines = 1000;
  let written = false;
  stream.write(line.repeat(lines), () => {
    written = true;
  });
  await ticks(50);
  assert.equal(written, false, "a hundred kilobytes fit into no terminal");
  let received = 0;
  const input = Buffer.alloc(4096);
  linux.setStatusFlags(terminal, linux.getStatusFlags(terminal) | O.NONBLOCK);
  while (received < lines * line.length) {
    try {
      received += readSync(terminal, input);
    } catch {
      await ticks(1);
    }
  }
  assert.equal(received, lines * line.length);
  closeSync(terminal);
  stream.destroy();
});

test("output is not read ahead of who takes it", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  linux.setStatusFlags(terminal, linux.getStatusFlags(terminal) | O.NONBLOCK);
  const stream = new PtyStream(linux, master);
  stream.read(0);
  let printed = 0;
  for (let full = 0; full < 50; ) {
    try {
      printed += writeSync(terminal, Buffer.alloc(1000, "y"));
      full = 0;
    } catch {
      full++;
      await ticks(1);
    }
  }
  assert.ok(stream.readableLength <= 2 * 65536, `${stream.readableLength} bytes are held`);
  closeSync(terminal);
  assert.equal((await text(stream)).length, printed);
  stream.destroy();
});

test("input after the hang-up is dropped without an error", async () => {
  const { master, path } = linux.openPty();
  closeSync(openTerminal(path));
  const stream = new PtyStream(linux, master);
  const ended = once(stream, "end");
  stream.resume();
  await ended;
  await new Promise((resolve, reject) => {
    stream.once("error", reject);
    stream.write("late", resolve);
  });
  stream.destroy();
});

test("resize() is seen on the other side, and does nothing once destroyed", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  const stream = new PtyStream(linux, master);
  stream.resize({ rows: 33, columns: 101 });
  assert.deepEqual(linux.getWindowSize(terminal), { rows: 33, columns: 101 });
  assert.deepEqual(stream.size(), { rows: 33, columns: 101 });
  const other = linux.dup(master);
  const closed = once(stream, "close");
  stream.destroy();
  await closed;
  assert.throws(() => linux.getStatusFlags(master), { errno: "EBADF" });
  stream.resize({ rows: 1, columns: 1 });
  assert.deepEqual(linux.getWindowSize(terminal), { rows: 33, columns: 101 });
  closeSync(other);
  closeSync(terminal);
});

test("a copy of input that is given up does not end the output", async () => {
  const { master, path } = linux.openPty();
  const terminal = openTerminal(path);
  const stream = new PtyStream(linux, master);
  const stop = new AbortController();
  const ctx = Context.background().withSignal(stop.signal);
  const copying = copyStream(ctx, new PassThrough(), stream, "keep");
  stop.abort();
  await assert.rejects(copying, (error) => hasCode(error, "canceled"));
  const all = text(stream);
  writeSync(terminal, "still here");
  closeSync(terminal);
  assert.equal(await all, "still here");
  stream.destroy();
});
