import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { codeOf } from "#pkg/errors.ts";
import { StatusError } from "#pkg/rpc/status.ts";
import {
  decodeMessageText,
  encodeMessageText,
  errorFromHeaders,
  statusHeaders,
} from "./status-headers.ts";

test("a message survives its percent-encoding, which is printable ASCII", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (message) => {
      const encoded = encodeMessageText(message);
      assert.match(encoded, /^[ -~]*$/);
      assert.equal(decodeMessageText(encoded), message);
    }),
  );
});

test("encodeMessageText() writes what grpc-go writes", () => {
  assert.equal(encodeMessageText('a "b" ~'), 'a "b" ~');
  assert.equal(encodeMessageText("100%\nü"), "100%25%0A%C3%BC");
});

test("decodeMessageText() leaves a percent sign that starts no escape", () => {
  assert.equal(decodeMessageText("100%"), "100%");
  assert.equal(decodeMessageText("%zz%4"), "%zz%4");
  assert.equal(decodeMessageText("%41%"), "A%");
});

test("details travel with the status", () => {
  const details = [{ typeUrl: "type.googleapis.com/x.Y", value: Uint8Array.of(1, 2, 255) }];
  const headers = statusHeaders({ code: 9, message: "no", details });
  assert.doesNotMatch(headers["grpc-status-details-bin"] ?? "=", /=/);
  const error = errorFromHeaders(headers);
  assert.ok(error instanceof StatusError);
  assert.deepEqual([...(error.details[0]?.value ?? [])], [1, 2, 255]);
  assert.equal(error.message, "no");
  assert.equal(codeOf(error), "failed-precondition");
});

test("details that do not parse take nothing from the status", () => {
  const error = errorFromHeaders({
    "grpc-status": "5",
    "grpc-message": "gone",
    "grpc-status-details-bin": "//////",
  });
  assert.equal(error?.code, "not-found");
  assert.equal(error.message, "gone");
});

test("errorFromHeaders() tells success from nonsense", () => {
  assert.equal(errorFromHeaders({ "grpc-status": "0" }), undefined);
  assert.equal(errorFromHeaders({ "grpc-status": "77" })?.code, "unknown");
  for (const status of [undefined, "", "ok", "-1", "1234"]) {
    assert.throws(() => errorFromHeaders({ "grpc-status": status }), { code: "internal" });
  }
});

test("statusHeaders() bounds what it puts into a header block", () => {
  const headers = statusHeaders({
    code: 2,
    message: "x".repeat(1 << 20),
    details: [{ typeUrl: "t", value: new Uint8Array(1 << 20) }],
  });
  assert.equal(headers["grpc-message"]?.length, 8 << 10);
  assert.equal(headers["grpc-status-details-bin"], undefined);
});
