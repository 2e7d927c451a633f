import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeaderRewriter } from "./header-rewriter.ts";
import { encodeLiterals, type HeaderField, HpackDecoder } from "./hpack.ts";
import {
  decodeFrameHeader,
  encodeFrame,
  encodeHeaders,
  FLAG_END_HEADERS,
  FRAME_HEADER_BYTES,
  FRAME_PAYLOAD_BYTES_MAX,
  headerFragment,
  TYPE_CONTINUATION,
  TYPE_HEADERS,
} from "./http2-frame.ts";

const field = (name: string, value: string): HeaderField => ({ name, value, neverIndexed: false });
const none = Buffer.alloc(0);

interface Read {
  readonly type: number;
  readonly streamId: number;
  readonly flags: number;
  /** Of frames other than headers. */
  readonly payload: string;
  readonly fields: HeaderField[];
}

/** Frames as a receiver with a table of its own reads them; a header block counts as one. */
function read(bytes: Buffer): Read[] {
  const decoder = new HpackDecoder();
  const all: Read[] = [];
  let blocks: Buffer[] = [];
  let first: { flags: number; streamId: number } | undefined;
  for (let rest = bytes; rest.length > 0; ) {
    const header = decodeFrameHeader(rest);
    assert.ok(header);
    assert.ok(header.length <= FRAME_PAYLOAD_BYTES_MAX);
    const end = FRAME_HEADER_BYTES + header.length;
    const payload = rest.subarray(FRAME_HEADER_BYTES, end);
    rest = rest.subarray(end);
    const { type, flags, streamId } = header;
    if (type !== TYPE_HEADERS && type !== TYPE_CONTINUATION) {
      all.push({ type, streamId, flags, payload: payload.toString("hex"), fields: [] });
      continue;
    }
    if (type === TYPE_HEADERS) first = { flags: flags & ~FLAG_END_HEADERS, streamId };
    assert.ok(first);
    blocks.push(type === TYPE_HEADERS ? headerFragment(flags, payload).block : payload);
    if ((flags & FLAG_END_HEADERS) === 0) continue;
    const fields = decoder.decode(Buffer.concat(blocks));
    all.push({ type: TYPE_HEADERS, ...first, payload: "", fields });
    blocks = [];
  }
  return all;
}

test("every frame comes out as it went in, but for the changed field, however it is cut", () => {
  const octets = fc.string({ maxLength: 40 });
  const data = fc.record({
    type: fc.constantFrom(0, 3, 4, 6, 8),
    flags: fc.nat({ max: 255 }),
    streamId: fc.nat({ max: 1000 }),
    payload: fc.uint8Array({ maxLength: 100 }),
  });
  const headers = fc.record({
    streamId: fc.nat({ max: 1000 }),
    value: octets,
    large: fc.boolean(),
  });
  const cuts = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 20 });
  type Item = typeof data | typeof headers extends fc.Arbitrary<infer T> ? T : never;
  const encode = (item: Item): Buffer => {
    if ("type" in item) return encodeFrame(item, item.payload);
    const fields = [field("old", item.value), field("x", "y".repeat(item.large ? 20_000 : 3))];
    const block = encodeLiterals(fields);
    return encodeHeaders({ flags: 1, streamId: item.streamId }, { priority: none, block });
  };
  fc.assert(
    fc.property(fc.array(fc.oneof(data, headers), { maxLength: 10 }), cuts, (items, sizes) => {
      const bytes = Buffer.concat(items.map(encode));
      const rewriter = new HeaderRewriter((f) => (f.name === "old" ? { ...f, name: "new" } : f));
      const out: Buffer[] = [];
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = (sizes[i % sizes.length] ?? 1) * 37;
        out.push(...rewriter.push(bytes.subarray(at, at + size)));
        at += size;
      }
      const expected = read(bytes).map((frame) => ({
        ...frame,
        fields: frame.fields.map((f) => (f.name === "old" ? { ...f, name: "new" } : f)),
      }));
      assert.deepEqual(read(Buffer.concat(out)), expected);
    }),
    { numRuns: 60 },
  );
});

test("a field that a client keeps in its table is changed each time it is referred to", () => {
  const rewriter = new HeaderRewriter((f) => (f.name === ":authority" ? { ...f, value: "l" } : f));
  // RFC 7541 C.3: the second block refers to what the first put into the table.
  const first = Buffer.from("828684410f7777772e6578616d706c652e636f6d", "hex");
  const second = Buffer.from("828684be58086e6f2d6361636865", "hex");
  const blocks = [first, second].map((block, i) =>
    encodeFrame({ type: TYPE_HEADERS, flags: FLAG_END_HEADERS, streamId: 2 * i + 1 }, block),
  );
  const frames = read(Buffer.concat(blocks.flatMap((block) => rewriter.push(block))));
  for (const { fields } of frames) {
    assert.equal(fields.find(({ name }) => name === ":authority")?.value, "l");
  }
  assert.equal(frames[1]?.fields.at(-1)?.value, "no-cache");
});

test("padding is dropped and priority kept", () => {
  const rewriter = new HeaderRewriter((f) => f);
  const block = encodeLiterals([field("a", "b")]);
  const priority = Buffer.from("8000000510", "hex");
  const payload = Buffer.concat([Buffer.of(3), priority, block, Buffer.alloc(3)]);
  const flags = FLAG_END_HEADERS | 0x08 | 0x20;
  const [out] = rewriter.push(encodeFrame({ type: TYPE_HEADERS, flags, streamId: 1 }, payload));
  const header = out && decodeFrameHeader(out);
  assert.equal(header?.flags, FLAG_END_HEADERS | 0x20);
  assert.deepEqual(out?.subarray(FRAME_HEADER_BYTES), Buffer.concat([priority, block]));
});
