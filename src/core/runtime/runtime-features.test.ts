import assert from "node:assert/strict";
import { test } from "node:test";
import { asksForIdMapping, assertIdMapping } from "#core/runtime/runtime-features.ts";
import type { Any } from "#pkg/any.ts";

const prefix = "types.containerd.io/opencontainers/runtime-spec/1";
const json = (name: string, value: unknown): Any => {
  return { typeUrl: `${prefix}/${name}`, value: Buffer.from(JSON.stringify(value)) };
};
const specOf = (mount: object): Any => json("Spec", { mounts: [{ destination: "/" }, mount] });
const featuresOf = (linux: unknown): Any => json("features/Features", { linux });

test("mappings of a mount and the options idmap and ridmap ask for id mapping", () => {
  const asking = [
    { uidMappings: [{ hostID: 1, containerID: 0, size: 1 }] },
    // Go's nil is what counts, not an empty list.
    { gidMappings: [] },
    { options: ["rbind", "idmap"] },
    { options: ["ridmap"] },
  ];
  for (const mount of asking) assert.equal(asksForIdMapping(specOf(mount)), true);
  const others = [{ uidMappings: null }, { options: ["rbind", "idmap=x"] }, { options: "idmap" }];
  for (const mount of others) assert.equal(asksForIdMapping(specOf(mount)), false);
  assert.equal(asksForIdMapping(undefined), false);
  assert.equal(asksForIdMapping(json("Spec", null)), false);
  assert.equal(asksForIdMapping({ ...specOf(asking[0] ?? {}), typeUrl: "other" }), false);
});

test("a runtime has to say that it maps", () => {
  assertIdMapping(featuresOf({ mountExtensions: { idmap: { enabled: true } } }));
  assertIdMapping({ typeUrl: "runtime/of/another/kind", value: new Uint8Array() });
  const failed = "failed to validate OCI runtime features: ";
  const unsupported = `${failed}idmap mounts not supported: `;
  const missing = `${unsupported}missing \`mountExtensions.idmap\` entry in \`features\` command`;
  for (const linux of [undefined, null, {}, { mountExtensions: {} }]) {
    assert.throws(() => assertIdMapping(featuresOf(linux)), { message: missing });
  }
  for (const enabled of [undefined, false, "true"]) {
    const features = featuresOf({ mountExtensions: { idmap: { enabled } } });
    assert.throws(() => assertIdMapping(features), /Enabled` in `features` command not present/);
  }
  assert.throws(() => assertIdMapping(undefined), /unmarshal runtime features/);
  const broken = { typeUrl: `${prefix}/features/Features`, value: Buffer.from("{") };
  assert.throws(() => assertIdMapping(broken), /unmarshal runtime features/);
});
