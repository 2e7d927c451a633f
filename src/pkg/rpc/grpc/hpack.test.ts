import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { encodeLiterals, HpackDecoder } from "./hpack.ts";
import { decodeHuffman } from "./huffman.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const pairs = (block: Uint8Array, decoder = new HpackDecoder()): string[] =>
  decoder.decode(block).map(({ name, value }) => `${name}: ${value}`);

const request1 = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];

describe("HpackDecoder reads the examples of RFC 7541", () => {
  test("C.2: the four kinds of a field", () => {
    const custom = hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    assert.deepEqual(pairs(custom), ["custom-key: custom-header"]);
    assert.deepEqual(pairs(hex("040c 2f73 616d 706c 652f 7061 7468")), [":path: /sample/path"]);
    const secret = new HpackDecoder().decode(hex("1008 7061 7373 776f 7264 0673 6563 7265 74"));
    assert.deepEqual(secret, [{ name: "password", value: "secret", neverIndexed: true }]);
    assert.deepEqual(pairs(hex("82")), [":method: GET"]);
  });

  test("C.3: requests that refer to each other", () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(
      pairs(hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), decoder),
      request1,
    );
    assert.deepEqual(pairs(hex("8286 84be 5808 6e6f 2d63 6163 6865"), decoder), [
      ...request1,
      "cache-control: no-cache",
    ]);
    const third = hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65");
    assert.deepEqual(pairs(third, decoder), [
      ":method: GET",
      ":scheme: https",
      ":path: /index.html",
      ":authority: www.example.com",
      "custom-key: custom-value",
    ]);
  });

  test("C.4: the same with Huffman codes", () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(pairs(hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"), decoder), request1);
    assert.deepEqual(pairs(hex("8286 84be 5886 a8eb 1064 9cbf"), decoder), [
      ...request1,
      "cache-control: no-cache",
    ]);
  });

  test("C.6: responses that push each other out of a table of 256 bytes", () => {
    const decoder = new HpackDecoder();
    pairs(hex("3fe1 01"), decoder);
    const first = hex(
      `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
       919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`.replaceAll("\n", ""),
    );
    assert.deepEqual(pairs(first, decoder), [
      ":status: 302",
      "cache-control: private",
      "date: Mon, 21 Oct 2013 20:13:21 GMT",
      "location: https://www.example.com",
    ]);
    assert.deepEqual(pairs(hex("4883 640e ffc1 c0bf"), decoder), [
      ":status: 307",
      "cache-control: private",
      "date: Mon, 21 Oct 2013 20:13:21 GMT",
      "location: https://www.example.com",
    ]);
    // ":status: 302" has gone: the fourth entry is the date no longer, but nothing.
    assert.throws(() => decoder.decode(hex("c2")), /no header field at index/);
  });
});

describe("HpackDecoder refuses", () => {
  const cases: Record<string, string> = {
    "index zero": "80",
    "an index beyond the tables": "c6",
    "a table larger than ours": "3fe2 1f",
    "a string that ends early": "0005 6162",
    "an integer without an end": "ffff ffff ffff ffff",
    "padding that is no ones": "0001 6181 1c",
    "an end of string": "0001 6184 ffff ffff",
  };
  for (const [name, block] of Object.entries(cases)) {
    test(name, () => {
      assert.throws(() => new HpackDecoder().decode(hex(block)));
    });
  }

  test("a list that inflates without end", () => {
    const decoder = new HpackDecoder();
    const long = Buffer.concat([hex("4001 61 7fa1 1e"), Buffer.alloc(4000, "x")]);
    decoder.decode(long);
    assert.throws(() => decoder.decode(Buffer.alloc(1000, 0xbe)), /header list too long/);
  });
});

test("HpackDecoder takes any bytes and throws at most an Error", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HpackDecoder();
      for (const block of blocks) {
        try {
          decoder.decode(block);
        } catch (error) {
          assert.ok(error instanceof Error);
          return;
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test("literals are read back, long ones too", () => {
  const octets = fc
    .uint8Array({ maxLength: 400 })
    .map((bytes) => Buffer.from(bytes).toString("latin1"));
  const fields = fc.array(
    fc.record(
      { name: octets, value: octets, neverIndexed: fc.boolean() },
      { noNullPrototype: true },
    ),
    {
      maxLength: 10,
    },
  );
  fc.assert(
    fc.property(fields, (sent) => {
      assert.deepEqual(new HpackDecoder().decode(encodeLiterals(sent)), sent);
    }),
  );
});

test("decodeHuffman() reads the longest codes", () => {
  // LF, CR and 0x16 have thirty bits each: 0x3ffffffc, ...fd, ...fe.
  assert.equal(decodeHuffman(hex("ffff fff3")), "\n");
  assert.equal(decodeHuffman(hex("ffff fff7")), "\r");
  assert.equal(decodeHuffman(hex("ffff fffb")), "\x16");
  assert.equal(decodeHuffman(new Uint8Array()), "");
});
