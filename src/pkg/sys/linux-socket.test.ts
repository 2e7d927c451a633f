import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposableSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { check, native } from "#pkg/sys/libc.ts";
import { linux } from "#pkg/sys/linux.ts";

const socket = native<(domain: number, type: number, protocol: number) => number>("socket", "int", [
  "int",
  "int",
  "int",
]);
const bind = native<(fd: number, address: Buffer, length: number) => number>("bind", "int", [
  "int",
  "in",
  "uint",
]);
const recv = native<(fd: number, into: Buffer, length: number, flags: number) => number>(
  "recv",
  "long",
  ["int", "out", "size", "int"],
);

const MSG_DONTWAIT = 0x40;

/** A datagram socket under a name as in sockaddr_un. */
function receiver(name: Buffer): { next(): string } & Disposable {
  const fd = check(socket(1, 2, 0), "socket");
  check(bind(fd, Buffer.concat([Buffer.of(1, 0), name]), 2 + name.length), "bind");
  return {
    next() {
      const into = Buffer.alloc(64);
      return into.toString("utf8", 0, check(recv(fd, into, 64, MSG_DONTWAIT), "recv"));
    },
    [Symbol.dispose]: () => linux.close(fd),
  };
}

test("sendDatagram() reaches a path and an abstract name", () => {
  using dir = mkdtempDisposableSync(`${tmpdir()}/datagram-`);
  const path = `${dir.path}/notify`;
  using byPath = receiver(Buffer.from(`${path}\0`));
  linux.sendDatagram(path, Buffer.from("READY=1"));
  assert.equal(byPath.next(), "READY=1");
  using byName = receiver(Buffer.from(`\0datagram-test-${process.pid}`));
  linux.sendDatagram(`@datagram-test-${process.pid}`, Buffer.from("STOPPING=1"));
  assert.equal(byName.next(), "STOPPING=1");
});

test("sendDatagram() says why it cannot", () => {
  using dir = mkdtempDisposableSync(`${tmpdir()}/datagram-`);
  const send = (path: string) => () => linux.sendDatagram(path, Buffer.from("x"));
  assert.throws(send(`${dir.path}/none`), { code: "ENOENT" });
  assert.throws(send(`/${"x".repeat(200)}`), { code: "ENAMETOOLONG" });
  {
    using _ = receiver(Buffer.from(`${dir.path}/gone\0`));
  }
  assert.throws(send(`${dir.path}/gone`), { code: "ECONNREFUSED" });
});

test("getPeerUid() is the user who connected", async () => {
  using dir = mkdtempDisposableSync(`${tmpdir()}/peer-`);
  const server = createServer().listen(`${dir.path}/s`);
  await once(server, "listening");
  const client = connect(`${dir.path}/s`);
  const [accepted] = (await once(server, "connection")) as [{ _handle: { fd: number } }]; // -- node:net's
  assert.equal(linux.getPeerUid(accepted._handle.fd), process.geteuid?.());
  client.destroy();
  server.close();
  assert.throws(() => linux.getPeerUid(-1), { code: "EBADF" });
});
