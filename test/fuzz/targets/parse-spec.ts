import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "#pkg/errors.ts";
import { formatLossless } from "#pkg/lossless-json.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import { parseImageRunConfig } from "#pkg/oci/image-config.ts";
import {
  parseProcess,
  parseResources,
  parseSeccompProfile,
  parseSpec,
} from "#pkg/oci/parse-spec.ts";
import { defaultSeccompProfile } from "#pkg/oci/seccomp-default.ts";
import { applyOptions, withSeccomp } from "#pkg/oci/spec-options.ts";
import { parseSpec as parseBundleSpec } from "#shim/spec.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const whole = applyOptions(
  defaultSpec({ namespace: "default", id: "c1" }),
  withSeccomp(defaultSeccompProfile({ capabilities: [], architecture: "arm64", kernel: "6.1" })),
);

/** A whole one with some value of it replaced by anything: nearer to what gets past a first look. */
const nearly = fc.tuple(fc.nat(), fc.jsonValue()).map(([at, value]) => {
  const copy: unknown = JSON.parse(JSON.stringify(whole));
  const places: (() => void)[] = [];
  visit(copy, (holder, key) => places.push(() => Reflect.set(holder, key, value)));
  places[at % places.length]?.();
  return JSON.stringify(copy);
});

function visit(value: unknown, found: (holder: object, key: string) => void): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    found(value, key);
    visit(part, found);
  }
}

/** Any text is a specification that comes back as it was, or invalid-argument; and nobody's prototype. */
export const target = fuzzTarget({
  name: "ParseSpec",
  inputs: fc.oneof(nearly, fc.json(), fc.string()),
  check(text) {
    const parsers = [
      parseSpec,
      parseProcess,
      parseResources,
      parseSeccompProfile,
      parseBundleSpec,
      (json: string) => parseImageRunConfig(Buffer.from(json)),
    ];
    for (const parse of parsers) {
      try {
        const parsed = parse(text);
        if (parse === parseSpec) assert.deepEqual(parse(formatLossless(parsed)), parsed);
      } catch (error) {
        if (!hasCode(error, "invalid-argument")) throw error;
      }
    }
    assert.equal(Object.keys(Object.prototype).length, 0);
  },
});
