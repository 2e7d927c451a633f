import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeHeader, type Frame, FrameReader, HEADER_BYTES, PAYLOAD_BYTES_MAX } from "./frame.ts";

const frames = fc.array(
  fc.record({
    streamId: fc.nat({ max: 2 ** 32 - 1 }),
    type: fc.nat({ max: 255 }),
    flags: fc.nat({ max: 255 }),
    payload: fc.uint8Array({ maxLength: 300 }),
  }),
  { maxLength: 20 },
);

function encode({ streamId, type, flags, payload }: Frame): Buffer {
  return Buffer.concat([encodeHeader(streamId, type, flags, payload.length), payload]);
}

function readAll(reader: FrameReader): Frame[] {
  const read: Frame[] = [];
  for (let frame = reader.next(); frame; frame = reader.next()) read.push(frame);
  return read;
}

function plain(frame: Frame): object {
  return { ...frame, payload: [...frame.payload] };
}

test("FrameReader gives the frames back however the bytes are cut", () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(frames, cuts, (sent, sizes) => {
      const bytes = Buffer.concat(sent.map(encode));
      const reader = new FrameReader();
      const read: Frame[] = [];
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] ?? 1;
        reader.push(bytes.subarray(at, at + size));
        read.push(...readAll(reader));
        at += size;
      }
      assert.deepEqual(read.map(plain), sent.map(plain));
    }),
  );
});

test("FrameReader takes any bytes without throwing and never gives an oversized payload", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (chunks) => {
      const reader = new FrameReader();
      for (const chunk of chunks) {
        reader.push(Buffer.from(chunk));
        for (const frame of readAll(reader)) {
          assert.ok(frame.payload.length <= PAYLOAD_BYTES_MAX);
        }
      }
    }),
  );
});

test("FrameReader skips an oversized payload, tells its length and goes on", () => {
  const reader = new FrameReader();
  const length = PAYLOAD_BYTES_MAX + 3;
  const header = encodeHeader(7, 1, 0, 0);
  header.writeUInt32BE(length, 0);
  reader.push(Buffer.concat([header, Buffer.alloc(100)]));
  const [frame] = readAll(reader);
  assert.equal(frame?.oversizedBytes, length);
  assert.equal(frame?.streamId, 7);
  for (let left = length - 100; left > 0; ) {
    const bytes = Math.min(left, 1 << 20);
    reader.push(Buffer.alloc(bytes, 0xff));
    assert.deepEqual(readAll(reader), []);
    left -= bytes;
  }
  const next = { streamId: 9, type: 1, flags: 0, payload: Buffer.from("ok") };
  reader.push(encode(next));
  assert.deepEqual(readAll(reader).map(plain), [plain(next)]);
});

test("FrameReader holds a frame back until its last byte", () => {
  const bytes = encode({ streamId: 1, type: 3, flags: 4, payload: Buffer.from("abc") });
  assert.equal(bytes.length, HEADER_BYTES + 3);
  const reader = new FrameReader();
  reader.push(bytes.subarray(0, -1));
  assert.equal(reader.next(), undefined);
  reader.push(bytes.subarray(-1));
  assert.equal(Buffer.from(reader.next()?.payload ?? []).toString(), "abc");
});

test("encodeHeader() refuses a payload above the limit with the protocol's words", () => {
  assert.throws(() => encodeHeader(1, 1, 0, PAYLOAD_BYTES_MAX + 1), {
    code: "resource-exhausted",
    message: "message length 4194305 exceed maximum message size of 4194304",
  });
  assert.equal(encodeHeader(1, 1, 0, PAYLOAD_BYTES_MAX).readUInt32BE(0), PAYLOAD_BYTES_MAX);
});
