import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, stat } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { type Handlers, serve } from "#pkg/rpc/service.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { encodeLiterals } from "./hpack.ts";
import {
  decodeFrameHeader,
  encodeFrame,
  encodeHeaders,
  FLAG_ACK,
  FRAME_HEADER_BYTES,
  PREFACE,
  TYPE_HEADERS,
  TYPE_PING,
  TYPE_SETTINGS,
} from "./http2-frame.ts";
import { GrpcServer } from "./server.ts";
import { GrpcTransport } from "./transport.ts";

const TYPE_DATA = 0;
const TYPE_RST_STREAM = 3;
const FLAG_END_STREAM = 1;
const ctx = Context.background();
const echo: Handlers<typeof Echo> = { unary: async (_ctx, { count }) => ({ count: count + 1 }) };

async function startServer(
  handlers = echo,
): Promise<AsyncDisposable & { path: string; server: GrpcServer }> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "grpc-")));
  const path = join(dir.path, "s");
  const server = stack.use(new GrpcServer({ services: [serve(Echo, handlers)] }));
  await server.listen(path, { mode: 0o660 });
  const owned = stack.move();
  return { path, server, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function session(path: string): ClientHttp2Session & Disposable {
  const made = connectHttp2("http://localhost", { createConnection: () => connect(path) });
  return Object.assign(made, { [Symbol.dispose]: () => made.destroy() });
}

const message = (bytes: Uint8Array, flag = 0): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
};
const countOne = Uint8Array.of(0x10, 0x01);

/** The answer's headers and trailers in one. */
async function ask(
  path: string,
  headers: Record<string, string>,
  body: Uint8Array = message(countOne),
): Promise<Record<string, unknown>> {
  using client = session(path);
  const stream = client.request({
    ":method": "POST",
    ":path": "/test.rpc.v1.Echo/Unary",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const answer: Record<string, unknown> = {};
  stream.on("response", (got) => Object.assign(answer, got));
  stream.on("trailers", (got) => Object.assign(answer, got));
  stream.resume();
  stream.end(headers[":method"] === "GET" ? undefined : body);
  await once(stream, "end");
  await new Promise((resolve) => setImmediate(resolve));
  return answer;
}

describe("GrpcServer answers a request that is not as it should be", () => {
  type Case = [
    name: string,
    headers: Record<string, string>,
    httpStatus: number,
    grpcStatus: string,
    words: RegExp,
  ];
  const cases: Case[] = [
    ["another content type", { "content-type": "text/html" }, 415, "3", /text\/html/],
    [
      "a content type that only begins alike",
      { "content-type": "application/grpcx" },
      415,
      "3",
      /x/,
    ],
    ["another method", { ":method": "GET" }, 405, "13", /which should be POST/],
    ["a timeout without a unit", { "grpc-timeout": "10" }, 400, "13", /malformed grpc-timeout/],
    ["a timeout of zero", { "grpc-timeout": "0n" }, 200, "4", /context deadline exceeded/],
    ["an unknown service", { ":path": "/x.Y/Z" }, 200, "12", /^unknown service x.Y$/],
    [
      "an unknown method",
      { ":path": "/test.rpc.v1.Echo/Z" },
      200,
      "12",
      /^unknown method Z for service test.rpc.v1.Echo$/,
    ],
    ["a path without a method", { ":path": "/x" }, 200, "12", /^malformed method name: "\/x"$/],
    ["an unknown encoding", { "grpc-encoding": "br" }, 200, "12", /grpc-encoding "br"$/],
  ];
  for (const [name, headers, httpStatus, grpcStatus, words] of cases) {
    test(name, async () => {
      await using t = await startServer();
      const answer = await ask(t.path, headers);
      assert.equal(answer[":status"], httpStatus);
      assert.equal(answer["grpc-status"], grpcStatus);
      assert.match(String(answer["grpc-message"]), words);
      if (headers["grpc-encoding"]) assert.equal(answer["grpc-accept-encoding"], "gzip");
    });
  }

  const bodies: [
    name: string,
    headers: Record<string, string>,
    body: Buffer,
    status: string,
    words: RegExp,
  ][] = [
    ["no message", {}, Buffer.alloc(0), "13", /no request message/],
    ["half a prefix", {}, Buffer.alloc(3), "13", /unexpected EOF/],
    ["half a message", {}, message(countOne).subarray(0, 6), "13", /unexpected EOF/],
    ["no protobuf", {}, message(Uint8Array.of(0xff)), "13", /error unmarshalling request/],
    ["a flag that is none", {}, message(countOne, 9), "13", /unexpected payload format 9/],
    ["compressed without an encoding", {}, message(countOne, 1), "13", /compressed flag set/],
    [
      "gzip that is none",
      { "grpc-encoding": "gzip" },
      message(countOne, 1),
      "13",
      /failed to decompress/,
    ],
    [
      "gzip that inflates beyond the limit",
      { "grpc-encoding": "gzip" },
      message(gzipSync(Buffer.alloc((16 << 20) + 1)), 1),
      "8",
      /after decompression larger than max 16777216/,
    ],
    [
      "a message above the limit, by its prefix alone",
      {},
      Buffer.from([0, 0xff, 0xff, 0xff, 0xff]),
      "8",
      /^grpc: received message larger than max \(4294967295 vs. 16777216\)$/,
    ],
  ];
  for (const [name, headers, body, status, words] of bodies) {
    test(name, async () => {
      await using t = await startServer();
      const answer = await ask(t.path, headers, body);
      assert.equal(answer["grpc-status"], status);
      assert.match(String(answer["grpc-message"]), words);
      assert.equal((await ask(t.path, {}))["grpc-status"], "0");
    });
  }

  test("a client that goes on sending, whose words are thrown away", async () => {
    await using t = await startServer({
      async *both(_ctx, requests) {
        for await (const { count } of requests) {
          yield { count };
          return;
        }
      },
    });
    using client = session(t.path);
    const stream = client.request({
      ":method": "POST",
      ":path": "/test.rpc.v1.Echo/Both",
      "content-type": "application/grpc",
    });
    stream.resume();
    stream.write(message(countOne));
    const [trailers] = (await once(stream, "trailers")) as [Record<string, string>];
    assert.equal(trailers["grpc-status"], "0");
    // More than any window lets through unread.
    const { promise, resolve } = Promise.withResolvers<boolean>();
    stream.write(Buffer.alloc(8 << 20), () => resolve(stream.closed));
    assert.equal(await promise, false, "cut off before all was sent");
  });

  test("application/grpc+proto and gzip are taken", async () => {
    await using t = await startServer();
    const headers = { "content-type": "application/grpc+proto", "grpc-encoding": "gzip" };
    const answer = await ask(t.path, headers, message(gzipSync(countOne), 1));
    assert.equal(answer["grpc-status"], "0");
  });
});

interface RawClient {
  readonly socket: Socket;
  request(streamId: number, authority: string | undefined, extra?: Record<string, string>): void;
  /** The next frame of this type. */
  frame(type: number): Promise<{ flags: number; streamId: number; payload: Buffer }>;
}

async function rawClient(path: string): Promise<RawClient> {
  const socket = connect(path);
  await once(socket, "connect");
  let held = Buffer.alloc(0);
  const frame: RawClient["frame"] = async (type) => {
    for (;;) {
      const header = decodeFrameHeader(held);
      const end = FRAME_HEADER_BYTES + (header?.length ?? 0);
      if (header && held.length >= end) {
        const payload = held.subarray(FRAME_HEADER_BYTES, end);
        held = held.subarray(end);
        if (header.type === type) return { ...header, payload };
        continue;
      }
      const chunk = await Promise.race([once(socket, "data"), once(socket, "close")]);
      if (!Buffer.isBuffer(chunk[0])) throw new Error("connection closed");
      held = Buffer.concat([held, chunk[0]]);
    }
  };
  return {
    socket,
    frame,
    request(streamId, authority, extra = {}) {
      const fields = Object.entries({
        ":method": "POST",
        ":scheme": "http",
        ":path": "/test.rpc.v1.Echo/Unary",
        ...(authority !== undefined && { ":authority": authority }),
        "content-type": "application/grpc",
        te: "trailers",
        ...extra,
      }).map(([name, value]) => ({ name, value, neverIndexed: false }));
      const block = { priority: Buffer.alloc(0), block: encodeLiterals(fields) };
      socket.write(encodeHeaders({ flags: 0, streamId }, block));
      const data = { type: TYPE_DATA, flags: FLAG_END_STREAM, streamId };
      socket.write(encodeFrame(data, message(countOne)));
    },
  };
}

const settings = encodeFrame({ type: TYPE_SETTINGS, flags: 0, streamId: 0 }, new Uint8Array());
const settingsAck = encodeFrame(
  { type: TYPE_SETTINGS, flags: FLAG_ACK, streamId: 0 },
  new Uint8Array(),
);

async function answered(client: RawClient, streamId: number): Promise<void> {
  const data = await client.frame(TYPE_DATA);
  assert.equal(data.streamId, streamId);
  assert.deepEqual([...data.payload], [...message(Uint8Array.of(0x10, 0x02))]);
}

describe("GrpcServer on a raw connection", () => {
  const authorities = [
    "localhost",
    "/run/containerd/containerd.sock",
    "unix:///run/x.sock",
    "%2Frun%2Fx.sock",
    "[::1]:80",
    "a b",
    "",
    "\x80\xff",
  ];
  for (const authority of authorities) {
    test(`serves authority ${JSON.stringify(authority)}`, async () => {
      await using t = await startServer();
      const client = await rawClient(t.path);
      client.socket.write(Buffer.concat([PREFACE, settings]));
      await client.frame(TYPE_SETTINGS);
      client.socket.write(settingsAck);
      client.request(1, authority);
      await answered(client, 1);
      client.socket.write(settingsAck);
      // Sixty kilobytes take continuations.
      client.request(3, authority, { "x-large": "x".repeat(60_000) });
      await answered(client, 3);
      client.socket.destroy();
    });
  }

  test("serves a client that asks before it has seen any settings, byte by byte", async () => {
    await using t = await startServer();
    const client = await rawClient(t.path);
    const { socket } = client;
    for (const byte of Buffer.concat([PREFACE, settings])) socket.write(Buffer.of(byte));
    client.request(1, "/run/x.sock");
    await client.frame(TYPE_SETTINGS);
    for (const byte of settingsAck) socket.write(Buffer.of(byte));
    await answered(client, 1);
    socket.destroy();
  });

  test("answers pings before the first request", async () => {
    await using t = await startServer();
    const client = await rawClient(t.path);
    const ping = encodeFrame({ type: TYPE_PING, flags: 0, streamId: 0 }, Buffer.from("12345678"));
    client.socket.write(Buffer.concat([PREFACE, settings, ping]));
    const pong = await client.frame(TYPE_PING);
    assert.equal(pong.flags, FLAG_ACK);
    assert.equal(pong.payload.toString(), "12345678");
    client.socket.write(settingsAck);
    client.request(1, "localhost");
    await answered(client, 1);
    client.socket.destroy();
  });

  test("refuses a request without any authority, and that alone", async () => {
    await using t = await startServer();
    const client = await rawClient(t.path);
    client.socket.write(Buffer.concat([PREFACE, settings, settingsAck]));
    client.request(1, undefined);
    assert.equal((await client.frame(TYPE_RST_STREAM)).streamId, 1);
    client.request(3, "localhost");
    await answered(client, 3);
    client.socket.destroy();
  });

  const hostile: Record<string, Buffer> = {
    "HTTP/1.1": Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    garbage: Buffer.alloc(100, 0x41),
    "a frame longer than allowed": Buffer.concat([
      PREFACE,
      Buffer.from("ffffff010400000001", "hex"),
    ]),
    "a header block that is none": Buffer.concat([
      PREFACE,
      settings,
      settingsAck,
      encodeFrame({ type: TYPE_HEADERS, flags: 4, streamId: 1 }, Buffer.alloc(8, 0xff)),
    ]),
    "padding longer than its frame": Buffer.concat([
      PREFACE,
      encodeFrame({ type: TYPE_HEADERS, flags: 0x0c, streamId: 1 }, Buffer.of(9, 1)),
    ]),
    "a continuation of nothing": Buffer.concat([
      PREFACE,
      encodeFrame({ type: 9, flags: 4, streamId: 1 }, Buffer.of(0x82)),
    ]),
    "settings without end": Buffer.concat([PREFACE, ...Array<Buffer>(150_000).fill(settings)]),
  };
  for (const [name, bytes] of Object.entries(hostile)) {
    test(`ends a connection that sends ${name}, and no other`, async () => {
      await using t = await startServer();
      await using transport = new GrpcTransport({ path: t.path });
      const beside = createClient(Echo, transport);
      await beside.unary(ctx, {});
      const socket = connect(t.path);
      socket.on("error", () => {}); // -- it may be reset while it still writes
      const closed = new Promise((resolve) => socket.on("close", resolve));
      socket.resume();
      socket.write(bytes);
      await closed;
      assert.equal((await beside.unary(ctx, { count: 1 })).count, 2);
    });
  }
});

test("a transport connects again after its server went away and came back", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "grpc-"));
  const path = join(dir.path, "s");
  await using transport = new GrpcTransport({ path });
  const client = createClient(Echo, transport);
  await assert.rejects(client.unary(ctx, {}), { code: "unavailable" });
  for (let round = 0; round < 3; round++) {
    const server = new GrpcServer({ services: [serve(Echo, echo)] });
    await server.listen(path, { mode: 0o600 });
    assert.equal((await client.unary(ctx, { count: round })).count, round + 1);
    await server.close();
    await assert.rejects(client.unary(ctx, {}), { code: "unavailable" });
  }
});

test("a server listens on TCP too", async () => {
  await using server = new GrpcServer({ services: [serve(Echo, echo)] });
  const { port } = await server.listenTcp({ host: "127.0.0.1", port: 0 });
  await using transport = new GrpcTransport({ host: "127.0.0.1", port });
  assert.equal((await createClient(Echo, transport).unary(ctx, { count: 1 })).count, 2);
});

test("the socket has the mode it was given", async () => {
  await using t = await startServer();
  assert.equal((await stat(t.path)).mode & 0o777, 0o660);
});

test("close() does not wait for connections without calls", async () => {
  await using t = await startServer();
  const silent = connect(t.path);
  const greeting = connect(t.path);
  greeting.write(Buffer.concat([PREFACE, settings]));
  await Promise.all([once(silent, "connect"), once(greeting, "data")]);
  const idle = session(t.path);
  await once(idle, "remoteSettings");
  const told = once(idle, "goaway");
  await t.server.close({ timeoutMs: 60_000 });
  await told;
  for (const socket of [silent, greeting]) socket.destroy();
  idle.destroy();
});

test("limits of a transport are its own", async () => {
  await using t = await startServer({ unary: async (_ctx, { data }) => ({ data }) });
  const limits = { receiveBytesMax: 100, sendBytesMax: 200 };
  await using transport = new GrpcTransport({ path: t.path }, limits);
  const client = createClient(Echo, transport);
  await assert.rejects(client.unary(ctx, { data: new Uint8Array(201) }), {
    code: "resource-exhausted",
    message: "grpc: trying to send message larger than max (204 vs. 200)",
  });
  await assert.rejects(client.unary(ctx, { data: new Uint8Array(150) }), {
    code: "resource-exhausted",
    message: "grpc: received message larger than max (153 vs. 100)",
  });
  assert.equal((await client.unary(ctx, { data: new Uint8Array(50) })).data.length, 50);
});

test("a namespace that no header can carry is refused before it is sent", async () => {
  await using t = await startServer();
  await using transport = new GrpcTransport({ path: t.path });
  const call = createClient(Echo, transport).unary(ctx.withNamespace("ü\n"), {});
  await assert.rejects(call, { code: "invalid-argument" });
});
