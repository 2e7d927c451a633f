import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeRequest, decodeResponse, encodeRequest, encodeResponse } from "./envelope.ts";

test("a request comes back as it was written", () => {
  const requests = fc.record({
    service: fc.string(),
    method: fc.string(),
    payload: fc.uint8Array(),
    timeoutNano: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    metadata: fc.array(fc.tuple(fc.string(), fc.string())),
  });
  fc.assert(
    fc.property(requests, (request) => {
      const { payload, ...rest } = decodeRequest(encodeRequest(request));
      const { payload: sent, ...others } = request;
      assert.deepEqual(rest, others);
      assert.deepEqual([...payload], [...sent]);
    }),
  );
});

test("a response comes back as it was written", () => {
  const details = fc.array(fc.record({ typeUrl: fc.string(), value: fc.uint8Array() }));
  const status = fc.record({ code: fc.integer({ min: 0 }), message: fc.string(), details });
  fc.assert(
    fc.property(status, fc.uint8Array(), (sent, payload) => {
      const response = decodeResponse(encodeResponse({ status: sent, payload }));
      assert.deepEqual([...response.payload], [...payload]);
      assert.equal(response.status?.message, sent.message);
      assert.equal(response.status?.code, sent.code);
      assert.deepEqual(
        response.status?.details.map(({ value, ...rest }) => ({ ...rest, value: [...value] })),
        sent.details.map(({ value, ...rest }) => ({ ...rest, value: [...value] })),
      );
    }),
  );
});

test("bytes that are no message throw or parse, and end", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      for (const decode of [decodeRequest, decodeResponse]) {
        try {
          decode(bytes);
        } catch (error) {
          assert.ok(error instanceof Error);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("fields of versions to come are skipped", () => {
  const known = encodeRequest({
    service: "s",
    method: "m",
    payload: new Uint8Array(),
    timeoutNano: 0n,
    metadata: [],
  });
  const unknown = Buffer.from([0x7a, 0x02, 0x01, 0x02, 0x80, 0x01, 0x05]);
  const request = decodeRequest(Buffer.concat([unknown, known]));
  assert.equal(request.service, "s");
  assert.equal(request.method, "m");
});
