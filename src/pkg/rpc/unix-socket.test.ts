import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, readdir, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { listenUnix, SOCKET_PATH_BYTES_MAX } from "./unix-socket.ts";

test("listenUnix() leaves one socket with its mode, and removes it on disposal", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "socket-"));
  const path = join(dir.path, "s");
  // What a crash left is replaced.
  await writeFile(path, "");
  const server = createServer((socket) => socket.end("hello"));
  const file = await listenUnix(server, path, { mode: 0o620 });
  assert.deepEqual(await readdir(dir.path), ["s"]);
  const { mode } = await stat(path);
  assert.equal((mode & 0o777).toString(8), "620");
  const [text] = (await once(connect(path), "data")) as [Buffer];
  assert.equal(text.toString(), "hello");
  server.close();
  await file[Symbol.asyncDispose]();
  await file[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(dir.path), []);
});

test("listenUnix() refuses a path that no address can hold, and leaves nothing", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "socket-"));
  const path = join(dir.path, "x".repeat(SOCKET_PATH_BYTES_MAX));
  await assert.rejects(listenUnix(createServer(), path, { mode: 0o600 }), {
    code: "invalid-argument",
    message: /is longer than 107 bytes/,
  });
  assert.deepEqual(await readdir(dir.path), []);
});

test("listenUnix() fails where the folder is missing", async () => {
  await assert.rejects(listenUnix(createServer(), "/nonexistent/s", { mode: 0o600 }), {
    code: /ENOENT|EACCES/,
  });
});

test("listenUnix() takes a path of the greatest length", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "s-"));
  const path = join(dir.path, "x".repeat(SOCKET_PATH_BYTES_MAX - dir.path.length - 1));
  assert.equal(Buffer.byteLength(path), SOCKET_PATH_BYTES_MAX);
  const server = createServer();
  await using _file = await listenUnix(server, path, { mode: 0o600 });
  const socket = connect(path);
  await once(socket, "connect");
  socket.destroy();
  server.close();
});
