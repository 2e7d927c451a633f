import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { NamespaceMode, PodSandboxConfigSchema } from "#api/cri/runtime/v1/config_pb.ts";
import { podSandboxConfigOf } from "#cri/pod-sandbox-config-convert.ts";
import { type CriRuntimeConfig, sandboxRuntime } from "./config.ts";

const runtime = {
  type: "",
  path: "",
  podAnnotations: [],
  snapshotter: "",
  sandboxer: "podsandbox",
  disablePauseImagePull: false,
};

const config: CriRuntimeConfig = {
  kind: "runtime",
  defaultRuntimeName: "runc",
  runtimes: new Map(["runc", "kata", "untrusted"].map((type) => [type, { ...runtime, type }])),
  restrictOomScoreAdj: false,
  unsetSeccompProfile: "",
  enableUnprivilegedPorts: true,
  enableUnprivilegedIcmp: true,
  roots: { root: "/r", state: "/s" },
};

const untrusted = { "io.kubernetes.cri.untrusted-workload": "true" };

function pod(annotations: Record<string, string>, pid: NamespaceMode = NamespaceMode.POD) {
  const linux = { securityContext: { namespaceOptions: { pid } } };
  return podSandboxConfigOf(create(PodSandboxConfigSchema, { annotations, linux }));
}

suite("sandboxRuntime()", () => {
  test("goes by the handler, or else the default", () => {
    assert.equal(sandboxRuntime(config, pod({}), "").type, "runc");
    assert.equal(sandboxRuntime(config, pod({}), "kata").type, "kata");
    assert.throws(() => sandboxRuntime(config, pod({}), "gvisor"), {
      message: 'no runtime for "gvisor" is configured',
    });
  });

  test("untrusted workloads have a runtime of their own, and nothing of the host's", () => {
    assert.equal(sandboxRuntime(config, pod(untrusted), "").type, "untrusted");
    assert.equal(sandboxRuntime(config, pod(untrusted), "untrusted").type, "untrusted");
    assert.throws(() => sandboxRuntime(config, pod(untrusted), "kata"), {
      message: "untrusted workload with explicit runtime handler is not allowed: invalid argument",
    });
    assert.throws(() => sandboxRuntime(config, pod(untrusted, NamespaceMode.NODE), ""), {
      message: "untrusted workload with host access is not allowed: invalid argument",
    });
  });
});
