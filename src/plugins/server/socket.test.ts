import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, rename, stat, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { assertUnserved, makeSocketDir } from "#plugins/server/socket.ts";

async function listening(path: string): Promise<Server> {
  const server = createServer().listen(path);
  await once(server, "listening");
  return server;
}

test("assertUnserved() refuses a path at which somebody listens, and takes a stale socket", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/socket-`);
  const path = `${dir.path}/s`;
  await assertUnserved(path);
  await assertUnserved(`${dir.path}/none/s`);
  const server = await listening(`${path}.moved`);
  await rename(`${path}.moved`, path);
  await assert.rejects(assertUnserved(path), {
    code: "already-exists",
    message: `listen unix ${path}: bind: address already in use`,
  });
  server.close();
  await once(server, "close");
  assert.ok((await stat(path)).isSocket());
  await assertUnserved(path);
});

test("assertUnserved() does not let a file that is no socket be replaced", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/socket-`);
  await writeFile(`${dir.path}/s`, "kept");
  await assert.rejects(assertUnserved(`${dir.path}/s`), {
    message: `listen unix ${dir.path}/s: a file that is no socket`,
  });
});

test("makeSocketDir() makes what is missing and leaves what is there", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/socket-`);
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  await makeSocketDir(`${dir.path}/a/b/s`, uid, gid);
  assert.equal((await stat(`${dir.path}/a/b`)).mode & 0o777, 0o770 & ~process.umask());
  await makeSocketDir(`${dir.path}/s`, uid, gid);
  assert.equal((await stat(dir.path)).mode & 0o777, 0o700);
});
