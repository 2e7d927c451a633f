import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { formatLossless } from "#pkg/lossless-json.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import { parseProcess, parseResources, parseSeccompProfile, parseSpec } from "./parse-spec.ts";
import { hostSeccompProfile } from "./seccomp-default.ts";
import { applyOptions, withSeccomp } from "./spec-options.ts";

const plain = defaultSpec({ namespace: "default", id: "c1" });

suite("parseSpec", () => {
  test("parseSpec() takes what is made here, and gives it back as it was", () => {
    const spec = applyOptions(plain, withSeccomp(hostSeccompProfile(["CAP_SYS_ADMIN"])));
    assert.deepEqual(parseSpec(formatLossless(spec)), spec);
  });

  test("parseSpec() takes Go's null for absent, and keeps what it does not know", () => {
    const text =
      '{"ociVersion":"1.0.2","process":null,"linux":{"maskedPaths":null,"x":{"y":[null]}},"vm":{}}';
    assert.deepEqual(parseSpec(text), {
      ociVersion: "1.0.2",
      linux: { x: { y: [null] } },
      vm: {},
    });
  });

  test("parseSpec() keeps limits of 64 bits", () => {
    const text =
      '{"ociVersion":"1","linux":{"resources":{"memory":{"limit":9223372036854775807}}}}';
    const spec = parseSpec(text);
    assert.equal(spec.linux?.resources?.memory?.limit, 9223372036854775807n);
    assert.equal(formatLossless(spec), text);
  });

  for (const [text, words] of [
    ["", "spec: "],
    ["[]", "spec is not an object"],
    ["{}", "spec: ociVersion"],
    ['{"ociVersion":1}', "spec: ociVersion"],
    ['{"ociVersion":"1","process":{"cwd":"/","args":"sh"}}', "spec: process.args"],
    ['{"ociVersion":"1","process":{"cwd":"/","user":{"uid":-1}}}', "spec: process.user.uid"],
    ['{"ociVersion":"1","process":{"cwd":"/","user":{"uid":4294967296}}}', "process.user.uid"],
    ['{"ociVersion":"1","process":{"cwd":"/","user":{"uid":1.5}}}', "process.user.uid"],
    ['{"ociVersion":"1","annotations":{"a":1}}', "spec: annotations: not a map of strings"],
    ['{"ociVersion":"1","annotations":{"constructor":1}}', "spec: annotations"],
    ['{"ociVersion":"1","mounts":{"destination":"/"}}', "spec: mounts"],
    ['{"ociVersion":"1","linux":{"namespaces":[{"type":"nets"}]}}', "linux.namespaces.0.type"],
    ['{"ociVersion":"1","linux":{"resources":{"memory":{"limit":1e30}}}}', "memory.limit"],
    ['{"ociVersion":"1","linux":{"resources":{"pids":{"limit":18446744073709551616}}}}', "limit"],
  ] as const) {
    test(`parseSpec() refuses ${text.slice(0, 70)}`, () => {
      assert.throws(
        () => parseSpec(text),
        (error: Error) => hasCode(error, "invalid-argument") && error.message.includes(words),
      );
    });
  }

  test("parseSpec() refuses what is nested without end, and what is too long", () => {
    const deep = `{"ociVersion":"1","x":${"[".repeat(200_000)}${"]".repeat(200_000)}}`;
    assert.throws(
      () => parseSpec(deep),
      (error) => hasCode(error, "invalid-argument"),
    );
    assert.throws(() => parseSpec(" ".repeat(16 * 1024 * 1024 + 1)), /longer than/);
  });

  test("parseSpec() changes nobody's prototype", () => {
    const spec = parseSpec(
      '{"ociVersion":"1","__proto__":{"evil":1},"annotations":{"__proto__":"x"}}',
    );
    assert.equal(({} as Record<string, unknown>)["evil"], undefined);
    assert.equal(Object.getPrototypeOf(spec.annotations), Object.prototype);
  });

  test("parts of a specification are parsed by themselves", () => {
    assert.deepEqual(parseProcess('{"cwd":"/","args":["sh"],"user":null}'), {
      cwd: "/",
      args: ["sh"],
    });
    assert.deepEqual(parseResources('{"pids":{"limit":5}}'), { pids: { limit: 5 } });
    const profile = { defaultAction: "SCMP_ACT_ERRNO" };
    assert.deepEqual(parseSeccompProfile(JSON.stringify(profile)), profile);
    // Docker's form.
    const docker = '{"defaultAction":"x","syscalls":[{"names":"read","action":"y"}]}';
    assert.throws(() => parseSeccompProfile(docker), /seccomp profile: syscalls.0.names/);
  });
});
