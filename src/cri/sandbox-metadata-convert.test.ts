import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { PodSandboxConfigSchema } from "#api/cri/runtime/v1/config_pb.ts";
import {
  metadataAny,
  metadataOfOptions,
  metadataTypeUrl,
  parseSandboxMetadata,
} from "./sandbox-metadata-convert.ts";

function any(text: string) {
  return { typeUrl: metadataTypeUrl, value: Buffer.from(text) };
}

function metadata(fields: object) {
  return any(JSON.stringify({ Version: "v1", Metadata: fields }));
}

suite("sandbox metadata", () => {
  test("it is read as CRI keeps it, and kept as it was read", () => {
    const fields = {
      ID: "pod",
      Name: "web_shop_uid_0",
      Config: {
        metadata: { name: "web", uid: "uid", namespace: "shop" },
        hostname: "web-0",
        dns_config: { servers: ["10.0.0.10"] },
        linux: {
          cgroup_parent: "/pods",
          security_context: {
            namespace_options: { network: 2, pid: 1, userns_options: { mode: 2 } },
            seccomp: { profile_type: 2, localhost_ref: "profile.json" },
            supplemental_groups: [7],
          },
        },
      },
      NetNSPath: "/run/netns/a",
      IP: "10.1.0.2",
      AdditionalIPs: ["fd00::2"],
      RuntimeHandler: "kata",
      CNIResult: { Interfaces: { eth0: { Mac: "aa" } } },
      ProcessLabel: "",
    };
    const read = parseSandboxMetadata(metadata(fields));
    assert.equal(read.config.cgroupParent, "/pods");
    assert.deepEqual(read.config.dns, { servers: ["10.0.0.10"], searches: [], options: [] });
    const { network, pid, ipc, user, seccomp, supplementalGroups } = read.config.security;
    assert.deepEqual([network, pid, ipc, user?.mode], ["node", "container", "pod", "node"]);
    assert.deepEqual(seccomp, { type: "localhost", localhostRef: "profile.json" });
    assert.deepEqual(supplementalGroups, [7n]);
    assert.deepEqual([read.netnsPath, read.runtimeHandler], ["/run/netns/a", "kata"]);
    const kept = Buffer.from(metadataAny(read).value).toString("utf8");
    assert.deepEqual(JSON.parse(kept), { Version: "v1", Metadata: fields });
  });

  test("what is left out is empty", () => {
    const { config, additionalIps, cniResult } = parseSandboxMetadata(metadata({ ID: "pod" }));
    assert.deepEqual([config.hostname, config.security.user, additionalIps], ["", undefined, []]);
    assert.equal(cniResult, null);
  });

  test("a configuration alone makes metadata too", () => {
    const config = create(PodSandboxConfigSchema, {
      metadata: { name: "web", namespace: "shop", uid: "u", attempt: 3 },
    });
    const value = toBinary(PodSandboxConfigSchema, config);
    const options = { typeUrl: "runtime.v1.PodSandboxConfig", value };
    const made = metadataOfOptions("pod", options, { netnsPath: "/run/netns/a" });
    assert.equal(made.name, "web_shop_u_3");
    assert.deepEqual(parseSandboxMetadata(metadataAny(made)), made);
    assert.throws(
      () => metadataOfOptions("pod", { typeUrl: "another", value }, { netnsPath: "" }),
      {
        code: "invalid-argument",
        message: /expected runtime\.v1\.PodSandboxConfig, got "another"/,
      },
    );
    assert.throws(
      () => metadataOfOptions("pod", { ...options, value: Buffer.from([255]) }, { netnsPath: "" }),
      { code: "invalid-argument", message: /^options: / },
    );
  });

  for (const [given, words] of [
    [{ ...any("{}"), typeUrl: "another" }, 'sandbox metadata: unexpected type "another"'],
    [any("no JSON"), "sandbox metadata: "],
    [any('{"Version":"v2","Metadata":{}}'), 'sandbox metadata: unsupported version: "v2"'],
    [any('{"Version":"v1"}'), "sandbox metadata: Metadata is not an object"],
    [metadata({ ID: 5 }), "sandbox metadata: ID is not a string"],
    [metadata({ AdditionalIPs: "10.0.0.1" }), "AdditionalIPs is not an array of strings"],
    [metadata({ Config: [] }), "field Config: expected an object, got an array"],
    [metadata({ Config: { hostname: 1 } }), "field Config.hostname: expected a string, got 1"],
    [
      metadata({ Config: { linux: { security_context: { namespace_options: { ipc: 9 } } } } }),
      "namespace_options.ipc: unknown namespace mode 9",
    ],
    [
      metadata({ Config: { linux: { security_context: { seccomp: { profile_type: 9 } } } } }),
      "seccomp.profile_type: unknown type 9",
    ],
  ] as const) {
    test(`it is refused: ${words}`, () => {
      assert.throws(
        () => parseSandboxMetadata(given),
        (error: Error & { code?: string }) => {
          assert.ok(error.message.includes(words), error.message);
          assert.equal(error.code, "invalid-argument");
          return true;
        },
      );
    });
  }
});
