import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
} from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import {
  encodeBootstrapParams,
  parseDeleteOutput,
  parseStartOutput,
} from "#core/runtime/bootstrap-convert.ts";
import { formatBootstrap } from "#core/runtime/bootstrap.ts";
import { CodedError, codeOf } from "#pkg/errors.ts";

const address = `unix:///run/containerd/s/${"0123456789abcdef".repeat(4)}`;

function anyOf(typeUrl: string, value: Iterable<number>): Any {
  return create(AnySchema, { typeUrl, value: Uint8Array.from(value) });
}

function parsed(text: string): ReturnType<typeof parseStartOutput> {
  return parseStartOutput(Buffer.from(text));
}

test("parseStartOutput() reads the message before anything else", () => {
  const bytes = toBinary(
    BootstrapResultSchema,
    create(BootstrapResultSchema, {
      version: 3,
      address,
      protocol: "grpc",
      metadata: { a: "b" },
      extensions: [{ value: anyOf("type.googleapis.com/x.Y", [1]) }],
    }),
  );
  assert.deepEqual(parseStartOutput(bytes), {
    version: 3,
    address,
    protocol: "grpc",
    capabilities: [],
    metadata: { a: "b" },
    extensions: [{ typeUrl: "type.googleapis.com/x.Y", value: new Uint8Array([1]) }],
  });
});

test("parseStartOutput() reads JSON and a plain address", () => {
  const json = parsed(`{"version":3,"address":"${address}","protocol":"ttrpc"}\n`);
  assert.deepEqual([json.version, json.address, json.protocol], [3, address, "ttrpc"]);
  const plain = parsed(`${address}\n`);
  assert.deepEqual([plain.version, plain.address, plain.protocol], [2, address, "ttrpc"]);
});

test("parseStartOutput() takes JSON of an older version than 2 for an address, as upstream", () => {
  const text = `{"version":1,"address":"${address}"}`;
  assert.deepEqual([parsed(text).version, parsed(text).address], [2, text]);
});

test("parseStartOutput() takes stray words of stderr as part of the address", () => {
  const text = `warning: something\n${address}`;
  assert.equal(parsed(text).address, text);
});

test("parseStartOutput() refuses a version it does not speak, whatever the form", () => {
  const binary = toBinary(BootstrapResultSchema, create(BootstrapResultSchema, { version: 4 }));
  for (const output of [binary, Buffer.from('{"version":4,"address":"unix:///x"}')]) {
    assert.throws(
      () => parseStartOutput(output),
      (error: Error) =>
        codeOf(error) === "not-implemented" && /unsupported shim version \(4\)/.test(error.message),
    );
  }
});

test("parseStartOutput() names the field that has the wrong type", () => {
  const cases = [
    ['{"version":3,"address":5}', /field address is 5/],
    ['{"version":3,"protocol":{}}', /field protocol is \{\}/],
    ['{"version":3,"metadata":{"a":1}}', /field metadata\.a is 1/],
    ['{"version":3,"extensions":[null]}', /field extensions is null/],
  ] as const;
  for (const [text, words] of cases) {
    assert.throws(
      () => parsed(text),
      (error: Error) => {
        assert.equal(codeOf(error), "invalid-argument");
        assert.match(error.message, words);
        return true;
      },
    );
  }
});

test("bootstrap.json is Go's JSON and reads back as it was, unknown parts included", () => {
  const result = parseStartOutput(
    toBinary(
      BootstrapResultSchema,
      create(BootstrapResultSchema, {
        version: 3,
        address: "unix:///a",
        protocol: "ttrpc",
        extensions: [{ value: anyOf("type.googleapis.com/t", Buffer.from("hi")) }],
      }),
    ),
  );
  const text = formatBootstrap(result);
  assert.equal(
    text,
    '{"version":3,"address":"unix:///a","protocol":"ttrpc",' +
      '"extensions":[{"value":{"type_url":"type.googleapis.com/t","value":"aGk="}}]}',
  );
  const back = parsed(text);
  assert.deepEqual(
    { ...back, extensions: back.extensions.map((e) => ({ ...e, value: [...e.value] })) },
    { ...result, extensions: result.extensions.map((e) => ({ ...e, value: [...e.value] })) },
  );
});

test("parseStartOutput() gives a result or a coded error for any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        assert.equal(typeof parseStartOutput(bytes).address, "string");
      } catch (error) {
        assert.ok(error instanceof CodedError, String(error));
      }
    }),
  );
});

test("parseDeleteOutput() refuses what is no response", () => {
  assert.throws(() => parseDeleteOutput(Buffer.from("panic: oops")), /shim delete response/);
});

test("encodeBootstrapParams() carries the runtime's options as they came", () => {
  const bytes = encodeBootstrapParams({
    id: "c1",
    namespace: "ns",
    logLevel: "debug",
    version: "1",
    ttrpcAddress: "/t",
    grpcAddress: "/g",
    binary: "/b",
    socketDir: "/s",
    options: { typeUrl: "containerd.runc.v1.Options", value: new Uint8Array([1, 2]) },
  });
  const message = fromBinary(BootstrapParamsSchema, bytes);
  assert.deepEqual(
    [message.instanceId, message.namespace, message.logLevel, message.socketDir],
    ["c1", "ns", -4, "/s"],
  );
  assert.equal(message.extensions[0]?.value?.typeUrl, "containerd.runc.v1.Options");
  assert.deepEqual([...(message.extensions[0]?.value?.value ?? [])], [1, 2]);
});
