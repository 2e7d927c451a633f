import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";

import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { AT, O, SOCK } from "#pkg/sys/constants.ts";
import { FdConnection, FdListener, receiveFds, sendFds } from "#pkg/sys/fd-passing.ts";
import { linux } from "#pkg/sys/linux.ts";

const ctx = Context.background();
let dir = "";

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sys-fds-"));
});

afterEach(() => {
  rmSync(dir, { recursive: true });
});

function inode(fd: number): bigint {
  return linux.fstatat(fd, "", AT.EMPTY_PATH).ino;
}

test("descriptors arrive in order, close-on-exec, and stay with the sender", async () => {
  using listener = await FdListener.listen(linux, join(dir, "s"));
  using client = await FdConnection.connect(ctx, linux, join(dir, "s"));
  using server = await listener.accept(ctx);
  const pipe = linux.pipe2(0);
  await client.send(ctx, Buffer.from("name"), [pipe.read, pipe.write]);
  const { data, fds } = await server.receive(ctx, { bytesMax: 100, fdsMax: 4 });
  assert.equal(data.toString(), "name");
  assert.deepEqual(fds.map(inode), [inode(pipe.read), inode(pipe.write)]);
  assert.ok(fds.every((fd) => linux.isCloseOnExec(fd)));
  for (const fd of [...fds, pipe.read, pipe.write]) linux.close(fd);
});

test("a message larger than the socket's buffer is sent whole, its descriptors once", async () => {
  const [a, b] = linux.socketpair(SOCK.STREAM);
  const data = Buffer.alloc(2 << 20, 7);
  const sending = sendFds(ctx, linux, a, { data, fds: [a] });
  let [bytes, fds] = [0, 0];
  while (bytes < data.length) {
    const message = await receiveFds(ctx, linux, b, { bytesMax: 1 << 20, fdsMax: 4 });
    bytes += message.data.length;
    fds += message.fds.length;
    for (const fd of message.fds) linux.close(fd);
  }
  await sending;
  assert.deepEqual([bytes, fds], [data.length, 1]);
  linux.close(a);
  linux.close(b);
});

test("more descriptors than there is room for are all closed and refused", async () => {
  const [a, b] = linux.socketpair(SOCK.STREAM);
  const before = linux.fstatat(AT.FDCWD, "/proc/self/fd", 0).sizeBytes;
  await sendFds(ctx, linux, a, { data: Buffer.from("x"), fds: [a, a, a, a] });
  const receiving = receiveFds(ctx, linux, b, { bytesMax: 10, fdsMax: 1 });
  await assert.rejects(receiving, { errno: "EMSGSIZE" });
  assert.equal(linux.fstatat(AT.FDCWD, "/proc/self/fd", 0).sizeBytes, before);
  linux.close(a);
  linux.close(b);
});

test("the end of the other side is an empty message", async () => {
  using listener = await FdListener.listen(linux, join(dir, "s"));
  const client = await FdConnection.connect(ctx, linux, join(dir, "s"));
  using server = await listener.accept(ctx);
  const receiving = server.receive(ctx, { bytesMax: 10, fdsMax: 1 });
  client.close();
  assert.deepEqual(await receiving, { data: Buffer.alloc(0), fds: [] });
});

test("waiting for a message or a connection ends with the context", async () => {
  using listener = await FdListener.listen(linux, join(dir, "s"));
  const stop = new AbortController();
  const stopped = ctx.withSignal(stop.signal);
  const accepting = [listener.accept(stopped), listener.accept(stopped)];
  stop.abort();
  for (const accept of accepting) {
    await assert.rejects(accept, (error) => hasCode(error, "canceled"));
  }
  const [a, b] = linux.socketpair(SOCK.STREAM);
  const short = ctx.withTimeout(20);
  const receiving = receiveFds(short, linux, a, { bytesMax: 1, fdsMax: 0 });
  await assert.rejects(receiving, (error) => hasCode(error, "deadline-exceeded"));
  linux.close(a);
  linux.close(b);
});

test("a closed connection refuses instead of using its old number", async () => {
  using listener = await FdListener.listen(linux, join(dir, "s"));
  using client = await FdConnection.connect(ctx, linux, join(dir, "s"));
  const server = await listener.accept(ctx);
  const receiving = server.receive(ctx, { bytesMax: 1, fdsMax: 0 });
  server.close();
  await assert.rejects(receiving, (error) => hasCode(error, "failed-precondition"));
  const sending = client.send(ctx, Buffer.from("x"), []);
  await sending.catch((error: unknown) => {
    assert.match(String(error), /broken pipe|connection reset/);
  });
});

test("each accept gets one connection; close() refuses the rest and removes the path", async () => {
  const path = join(dir, "s");
  const listener = await FdListener.listen(linux, path);
  const accepting = [listener.accept(ctx), listener.accept(ctx), listener.accept(ctx)];
  const clients = [1, 2].map(() => connect(path));
  const [first, second] = await Promise.all(accepting.slice(0, 2));
  listener.close();
  assert.equal(existsSync(path), false);
  await assert.rejects(accepting[2] ?? Promise.resolve(), (error) => hasCode(error, "unavailable"));
  first?.close();
  second?.close();
  for (const client of clients) client.destroy();
});

test("descriptors of a fifo keep working in the hands of the receiver", async () => {
  const path = join(dir, "fifo");
  linux.mkfifo(path, 0o600);
  const [a, b] = linux.socketpair(SOCK.STREAM);
  const keeper = linux.openat(AT.FDCWD, path, O.RDWR | O.NONBLOCK);
  await sendFds(ctx, linux, a, { data: Buffer.from("k"), fds: [keeper] });
  linux.close(keeper);
  const { fds } = await receiveFds(ctx, linux, b, { bytesMax: 1, fdsMax: 1 });
  const [held] = fds;
  assert.ok(held !== undefined);
  // Somebody still reads, or this would be ENXIO.
  linux.close(linux.openat(AT.FDCWD, path, O.WRONLY | O.NONBLOCK));
  for (const fd of [held, a, b]) linux.close(fd);
});
