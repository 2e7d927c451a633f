import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { codeOf } from "#pkg/errors.ts";
import { compareVersions, parseSpec, withVersion } from "./spec.ts";

suite("spec", () => {
  test("parseSpec() asks for the version that has what is used", () => {
    const needed = (rest: object) =>
      parseSpec(JSON.stringify({ ociVersion: "1.3.0", ...rest })).neededVersion;
    assert.equal(needed({}), "1.0.2");
    assert.equal(needed({ domainname: "x" }), "1.1.0");
    assert.equal(needed({ process: { scheduler: {} }, domainname: "x" }), "1.2.0");
    assert.equal(needed({ linux: { namespaces: [{ type: "time" }] } }), "1.2.0");
    assert.equal(needed({ linux: { netDevices: {} }, process: { scheduler: {} } }), "1.3.0");
  });

  test("parseSpec() tells a pid namespace of its own from a shared one", () => {
    const own = (namespaces: object[]) =>
      parseSpec(JSON.stringify({ ociVersion: "1.0.2", linux: { namespaces } })).hasOwnPidNamespace;
    assert.equal(own([{ type: "pid" }]), true);
    assert.equal(own([{ type: "pid", path: "/proc/1/ns/pid" }]), false);
    assert.equal(own([{ type: "mount" }]), false);
  });

  test("parseSpec() refuses what is no specification", () => {
    for (const text of ["", "[]", "null", "{}", '{"ociVersion":1}']) {
      assert.throws(
        () => parseSpec(text),
        (error) => codeOf(error) === "invalid-argument",
        text,
      );
    }
  });

  test("withVersion() changes the version and not one byte more", () => {
    const text =
      '{"ociVersion": "1.3.0","linux":{"resources":{"memory":{"limit":9223372036854771712}}}}';
    const rewritten = withVersion(parseSpec(text), "1.1.0");
    assert.equal(rewritten, text.replace('"ociVersion": "1.3.0"', '"ociVersion":"1.1.0"'));
  });

  test("withVersion() is not fooled by an annotation of that name", () => {
    const text = '{"annotations":{"ociVersion":"9"},"ociVersion":"1.3.0"}';
    assert.throws(() => withVersion(parseSpec(text), "1.1.0"), /ociVersion/);
  });

  test("compareVersions() orders numbers, not letters", () => {
    assert.ok(compareVersions("1.10.0", "1.9.0") > 0);
    assert.ok(compareVersions("1.0.2-dev", "1.1.0") < 0);
    assert.equal(compareVersions("1.1", "1.1.0+x"), 0);
  });
});
