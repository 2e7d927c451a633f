import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { BootstrapParamsSchema, LogLevel } from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { defaultOptions } from "#shim/options.ts";
import { parseStartInput } from "./bootstrap-convert.ts";

const task = { id: "c1", namespace: "ns" };

function runcOptions(): Any {
  const options = create(OptionsSchema, { binaryName: "crun", shimCgroup: "/shims" });
  return create(AnySchema, {
    typeUrl: OptionsSchema.typeName,
    value: toBinary(OptionsSchema, options),
  });
}

function paramsOf(id: string, namespace: string): Uint8Array {
  const strange = create(AnySchema, { typeUrl: "example.com/unknown", value: new Uint8Array([1]) });
  const params = create(BootstrapParamsSchema, {
    instanceId: id,
    namespace,
    logLevel: LogLevel.DEBUG,
    containerdGrpcAddress: "/run/c.sock",
    containerdTtrpcAddress: "/run/c.sock.ttrpc",
    socketDir: "/run/s",
    extensions: [{ value: strange }, { value: runcOptions() }],
  });
  return toBinary(BootstrapParamsSchema, params);
}

test("parameters that name this task are taken, extensions of unknown types passed over", () => {
  assert.deepEqual(parseStartInput(paramsOf("c1", "ns"), task), {
    dialect: "params",
    isDebug: true,
    grpcAddress: "/run/c.sock",
    ttrpcAddress: "/run/c.sock.ttrpc",
    socketDir: "/run/s",
    options: { ...defaultOptions, binaryName: "crun", shimCgroup: "/shims" },
  });
});

test("anything else is of a daemon from before the parameters, and changes nothing", () => {
  const inputs = {
    nothing: new Uint8Array(),
    "options of an older daemon": toBinary(AnySchema, runcOptions()),
    "another task's": paramsOf("c2", "ns"),
    "another namespace's": paramsOf("c1", "other"),
    garbage: new Uint8Array([0xff, 0xff, 0xff]),
  };
  for (const [what, input] of Object.entries(inputs)) {
    const { dialect, grpcAddress, socketDir, options } = parseStartInput(input, task);
    assert.equal(dialect, "address", what);
    assert.deepEqual(
      [grpcAddress, socketDir, options],
      [undefined, undefined, defaultOptions],
      what,
    );
  }
});
