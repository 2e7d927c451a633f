import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { PodSandboxConfigSchema } from "#api/cri/runtime/v1/config_pb.ts";
import { MetricsSchema } from "#api/cgroups/v2/metrics_pb.ts";
import { OptionsSchema } from "#api/types/runtimeoptions/v1/api_pb.ts";
import { formatLossless, parseLossless } from "#pkg/lossless-json.ts";
import { fromGoJson, toGoJson } from "./go-json.ts";

function pod(init: MessageInitShape<typeof PodSandboxConfigSchema>) {
  return create(PodSandboxConfigSchema, init);
}

suite("Go's JSON", () => {
  test("toGoJson() names fields as the description, and leaves out what is empty", () => {
    const config = pod({
      metadata: { name: "web", attempt: 2 },
      hostname: "",
      portMappings: [{ protocol: 1, hostPort: 80 }, {}],
      labels: { app: "web", empty: "" },
      linux: {
        cgroupParent: "/pods",
        securityContext: { runAsUser: { value: 0n }, privileged: false, namespaceOptions: {} },
        resources: { memoryLimitInBytes: 9_007_199_254_740_993n },
      },
    });
    assert.equal(
      formatLossless(toGoJson(PodSandboxConfigSchema, config)),
      '{"metadata":{"name":"web","attempt":2},' +
        '"port_mappings":[{"protocol":1,"host_port":80},{}],' +
        '"labels":{"app":"web","empty":""},' +
        '"linux":{"cgroup_parent":"/pods",' +
        '"security_context":{"namespace_options":{},"run_as_user":{}},' +
        '"resources":{"memory_limit_in_bytes":9007199254740993}}}',
    );
  });

  test("bytes are base64, and 64 bits are wholly there", () => {
    const options = create(OptionsSchema, { configBody: new TextEncoder().encode("a = 1") });
    assert.deepEqual(toGoJson(OptionsSchema, options), { config_body: "YSA9IDE=" });
    assert.deepEqual(fromGoJson(OptionsSchema, { config_body: "YSA9IDE=" }), options);
    const text = '{"memory":{"usage_limit":18446744073709551615}}';
    const metrics = fromGoJson(MetricsSchema, parseLossless(text, "metrics"));
    assert.equal(metrics.memory?.usageLimit, 2n ** 64n - 1n);
    assert.equal(formatLossless(toGoJson(MetricsSchema, metrics)), text);
  });

  test("a text of spaces is not empty, and digits beyond a number's are read as they are", () => {
    const config = pod({ hostname: " ", metadata: { name: "0" } });
    const json = toGoJson(PodSandboxConfigSchema, config);
    assert.deepEqual(json, { metadata: { name: "0" }, hostname: " " });
    for (const digits of ["36028797018963970", "-11024353711476962", "9007199254740993"]) {
      const text = `{"linux":{"resources":{"cpu_quota":${digits}}}}`;
      const read = fromGoJson(PodSandboxConfigSchema, parseLossless(text, "config"));
      assert.equal(read.linux?.resources?.cpuQuota, BigInt(digits));
    }
  });

  test("fromGoJson() passes over what it does not know, and takes null for nothing", () => {
    const config = fromGoJson(PodSandboxConfigSchema, {
      hostname: "web",
      unheard_of: { a: 1 },
      labels: null,
      linux: null,
    });
    assert.deepEqual(config, pod({ hostname: "web" }));
  });

  test("fromGoJson() keeps keys of maps that mean something to JavaScript", () => {
    const given = JSON.parse('{"labels":{"__proto__":"a","constructor":"b"}}') as unknown;
    const { labels } = fromGoJson(PodSandboxConfigSchema, given);
    assert.deepEqual(Object.entries(labels), [
      ["__proto__", "a"],
      ["constructor", "b"],
    ]);
    assert.equal(Object.getPrototypeOf(labels), Object.prototype);
  });

  for (const [given, words] of [
    ["text", "value: expected an object"],
    [{ hostname: 5 }, "field hostname: expected a string, got 5"],
    [{ labels: ["a"] }, "field labels: expected an object, got an array"],
    [{ labels: { a: {} } }, "field labels.a: expected a string, got an object"],
    [{ metadata: { attempt: -1 } }, "field metadata.attempt: expected an integer from 0 to"],
    [{ metadata: { attempt: 1.5 } }, "field metadata.attempt: expected an integer, got 1.5"],
    [
      { port_mappings: [{ protocol: "TCP" }] },
      "field port_mappings.0.protocol: expected an integer",
    ],
    [{ linux: { resources: { cpu_quota: 2n ** 63n } } }, "cpu_quota: expected an integer from"],
    [{ linux: { security_context: { privileged: 1 } } }, "privileged: expected a boolean, got 1"],
  ] as const) {
    test(`fromGoJson() refuses ${words}`, () => {
      assert.throws(
        () => fromGoJson(PodSandboxConfigSchema, given),
        (error: Error) => {
          assert.ok(error.message.includes(words), error.message);
          return true;
        },
      );
    });
  }

  test("what is written is read back", () => {
    const text = fc.string({ maxLength: 8 });
    const map = fc.dictionary(text, text, { maxKeys: 3, noNullPrototype: true });
    const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    const configs = fc.record({
      hostname: text,
      labels: map,
      annotations: map,
      metadata: fc.record({ name: text, attempt: fc.nat() }),
      linux: fc.record({ sysctls: map, resources: fc.record({ cpuQuota: int64 }) }),
    });
    fc.assert(
      fc.property(configs, (init) => {
        const config = pod(init);
        const json = formatLossless(toGoJson(PodSandboxConfigSchema, config));
        const read = fromGoJson(PodSandboxConfigSchema, parseLossless(json, "config"));
        assert.deepEqual(read, config);
      }),
      { numRuns: 300 },
    );
  });
});
