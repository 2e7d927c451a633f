import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, readdir, stat } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { type Handlers, serve } from "#pkg/rpc/service.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { decodeResponse, encodeRequest } from "./envelope.ts";
import {
  encodeHeader,
  FLAG_NO_DATA,
  FLAG_REMOTE_CLOSED,
  FLAG_REMOTE_OPEN,
  type Frame,
  FrameReader,
  MESSAGE_DATA,
  MESSAGE_REQUEST,
  MESSAGE_RESPONSE,
  PAYLOAD_BYTES_MAX,
} from "./frame.ts";
import { TtrpcServer } from "./server.ts";
import { TtrpcTransport } from "./transport.ts";

const echo: Handlers<typeof Echo> = {
  unary: async (_ctx, { count }) => ({ count: count + 1 }),
  up: async (_ctx, requests) => {
    let count = 0;
    for await (const request of requests) count += request.count;
    return { count };
  },
};

interface Peer extends AsyncDisposable {
  readonly socket: Socket;
  send(streamId: number, type: number, flags: number, payload: Uint8Array): void;
  next(): Promise<Frame>;
}

/** A client that can say anything. */
async function rawPeer(handlers = echo): Promise<Peer> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-")));
  const path = join(dir.path, "s");
  const server = stack.use(new TtrpcServer({ services: [serve(Echo, handlers)] }));
  await server.listen(path, { mode: 0o600 });
  const socket = connect(path);
  stack.defer(() => void socket.destroy());
  const reader = new FrameReader();
  await once(socket, "connect");
  const owned = stack.move();
  return {
    socket,
    send(streamId, type, flags, payload) {
      socket.write(Buffer.concat([encodeHeader(streamId, type, flags, payload.length), payload]));
    },
    async next() {
      for (;;) {
        const frame = reader.next();
        if (frame) return frame;
        const [chunk] = (await once(socket, "data")) as [Buffer];
        reader.push(chunk);
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function request(method: string, payload = new Uint8Array()): Uint8Array {
  const service = "test.rpc.v1.Echo";
  return encodeRequest({ service, method, payload, timeoutNano: 0n, metadata: [] });
}

const countOne = Uint8Array.of(0x10, 0x01);

async function refusal(peer: Peer): Promise<string> {
  const frame = await peer.next();
  assert.equal(frame.type, MESSAGE_RESPONSE);
  const { status } = decodeResponse(frame.payload);
  return `${frame.streamId}: ${status?.code} ${status?.message}`;
}

describe("TtrpcServer answers what is not allowed and goes on", () => {
  const cases: readonly [string, (peer: Peer) => void, RegExp][] = [
    [
      "an even stream",
      (peer) => peer.send(2, MESSAGE_REQUEST, 0, request("Unary")),
      /^2: 3 StreamID must be odd for client initiated streams$/,
    ],
    [
      "data on no stream",
      (peer) => peer.send(5, MESSAGE_DATA, 0, countOne),
      /^5: 3 StreamID is no longer active$/,
    ],
    [
      "a request that is no message",
      (peer) => peer.send(1, MESSAGE_REQUEST, 0, Uint8Array.of(0xff, 0xff)),
      /^1: 3 unmarshal request error: /,
    ],
    [
      "a payload that is no message",
      (peer) => peer.send(1, MESSAGE_REQUEST, 0, request("Unary", Uint8Array.of(0xff))),
      /^1: 13 ttrpc: error unmarshalling payload: /,
    ],
    [
      "an unknown method",
      (peer) => peer.send(1, MESSAGE_REQUEST, 0, request("Nothing")),
      /^1: 12 method Nothing$/,
    ],
    [
      "an oversized frame",
      (peer) => {
        const header = encodeHeader(1, MESSAGE_REQUEST, 0, 0);
        header.writeUInt32BE(PAYLOAD_BYTES_MAX + 1, 0);
        peer.socket.write(Buffer.concat([header, Buffer.alloc(PAYLOAD_BYTES_MAX + 1)]));
      },
      /^1: 8 message length 4194305 exceed maximum message size of 4194304$/,
    ],
  ];
  for (const [name, provoke, expected] of cases) {
    test(name, async () => {
      await using peer = await rawPeer();
      provoke(peer);
      assert.match(await refusal(peer), expected);
      peer.send(7, MESSAGE_REQUEST, 0, request("Unary", countOne));
      const { payload, status } = decodeResponse((await peer.next()).payload);
      assert.equal(status?.code, 0);
      assert.deepEqual([...payload], [0x10, 0x02]);
    });
  }

  test("a stream id used again", async () => {
    await using peer = await rawPeer();
    peer.send(3, MESSAGE_REQUEST, 0, request("Unary", countOne));
    assert.equal(decodeResponse((await peer.next()).payload).status?.code, 0);
    for (const streamId of [3, 1]) {
      peer.send(streamId, MESSAGE_REQUEST, 0, request("Unary"));
      assert.match(await refusal(peer), /: 3 StreamID cannot be re-used and must increment$/);
    }
  });

  test("data after the end of the client's stream", async () => {
    const ended = Promise.withResolvers<void>();
    await using peer = await rawPeer({
      up: async (_ctx, requests) => {
        for await (const _ of requests) continue;
        await ended.promise;
        return {};
      },
    });
    peer.send(1, MESSAGE_REQUEST, FLAG_REMOTE_OPEN, request("Up"));
    peer.send(1, MESSAGE_DATA, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, new Uint8Array());
    peer.send(1, MESSAGE_DATA, 0, countOne);
    assert.match(await refusal(peer), /^1: 3 data handling error: ttrpc: stream closed$/);
    ended.resolve();
  });

  test("frames of a type to come are ignored", async () => {
    await using peer = await rawPeer();
    peer.send(1, 9, 0, countOne);
    peer.send(3, MESSAGE_REQUEST, 0, request("Unary", countOne));
    assert.equal((await peer.next()).streamId, 3);
  });

  test("garbage and a cut frame end nothing but their connection", async () => {
    await using peer = await rawPeer();
    peer.socket.end(Buffer.alloc(5000, 0xab));
    peer.socket.resume();
    await once(peer.socket, "close");
  });
});

test("data on a stream that its request opened with a first message counts it", async () => {
  await using peer = await rawPeer();
  peer.send(1, MESSAGE_REQUEST, FLAG_REMOTE_OPEN, request("Up", countOne));
  peer.send(1, MESSAGE_DATA, FLAG_REMOTE_CLOSED, countOne);
  const { payload } = decodeResponse((await peer.next()).payload);
  assert.deepEqual([...payload], [0x10, 0x02]);
});

test("calls above the limit of a connection are refused, the others answered", async () => {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-")));
  const path = join(dir.path, "s");
  const finish = Promise.withResolvers<void>();
  const service = serve(Echo, {
    unary: async () => {
      await finish.promise;
      return {};
    },
  });
  const server = stack.use(new TtrpcServer({ services: [service], callsPerConnectionMax: 2 }));
  await server.listen(path, { mode: 0o600 });
  const ctx = Context.background();
  const client = createClient(Echo, stack.use(await TtrpcTransport.connect(ctx, path)));
  const running = [client.unary(ctx, {}), client.unary(ctx, {})];
  await assert.rejects(client.unary(ctx, {}), {
    code: "resource-exhausted",
    message: "more than 2 calls at once on one connection",
  });
  finish.resolve();
  await Promise.all(running);
  await client.unary(ctx, {});
});

test("listen() replaces a stale socket, sets its mode, and close() removes it", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ttrpc-"));
  const path = join(dir.path, "s");
  const ctx = Context.background();
  const first = new TtrpcServer();
  await first.listen(path, { mode: 0o600 });
  const second = new TtrpcServer({ services: [serve(Echo, echo)] });
  await second.listen(path, { mode: 0o660 });
  assert.equal((await stat(path)).mode & 0o777, 0o660);
  await first.close();
  // The first server's end leaves the second's socket.
  const transport = await TtrpcTransport.connect(ctx, path);
  assert.equal((await createClient(Echo, transport).unary(ctx, { count: 1 })).count, 2);
  await transport.close();
  await second.close();
  assert.deepEqual(await readdir(dir.path), []);
});

test("connect() fails unavailable where nobody listens, with the system's error as cause", async () => {
  await assert.rejects(
    TtrpcTransport.connect(Context.background(), "/nonexistent/s"),
    (error: Error) => {
      assert.match(error.message, /^connect to "\/nonexistent\/s": /);
      assert.equal((error.cause as NodeJS.ErrnoException).code, "ENOENT");
      return true;
    },
  );
});

test("a transport refuses frames that no server may send", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ttrpc-"));
  const path = join(dir.path, "s");
  const replies = [
    [MESSAGE_DATA, countOne, "internal"],
    [MESSAGE_RESPONSE, Uint8Array.of(0xff), "internal"],
    [77, countOne, "internal"],
  ] as const;
  for (const [type, payload, code] of replies) {
    const server = createServer((socket) => {
      socket.once("data", () => {
        socket.write(Buffer.concat([encodeHeader(1, type, 0, payload.length), payload]));
      });
    });
    server.listen(path);
    await once(server, "listening");
    const ctx = Context.background();
    const transport = await TtrpcTransport.connect(ctx, path);
    await assert.rejects(createClient(Echo, transport).unary(ctx, {}), { code });
    await transport.close();
    server.close();
    await once(server, "close");
  }
});

test("a stream that the caller does not read ends full, and the connection goes on", async () => {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-")));
  const path = join(dir.path, "s");
  const sent = Promise.withResolvers<void>();
  const service = serve(Echo, {
    ...echo,
    async *down() {
      for (let count = 0; count < 100; count++) yield { count };
      sent.resolve();
    },
  });
  const server = stack.use(new TtrpcServer({ services: [service] }));
  await server.listen(path, { mode: 0o600 });
  const ctx = Context.background();
  const client = createClient(Echo, stack.use(await TtrpcTransport.connect(ctx, path)));
  const unread = client.down(ctx, {});
  await sent.promise;
  assert.equal((await client.unary(ctx, { count: 1 })).count, 2);
  const counts: number[] = [];
  await assert.rejects(
    async () => {
      for await (const { count } of unread) counts.push(count);
    },
    { code: "resource-exhausted", message: "ttrpc: stream buffer full" },
  );
  assert.equal(counts.length, 64);
});
