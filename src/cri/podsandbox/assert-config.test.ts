import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { metadataTypeUrl, parseSandboxMetadata } from "#cri/sandbox-metadata-convert.ts";
import type { SandboxMetadata } from "#cri/sandbox-metadata.ts";
import { assertSandboxConfig } from "./assert-config.ts";

function metadataOf(config: object, more: object = {}): SandboxMetadata {
  const text = JSON.stringify({ Version: "v1", Metadata: { ID: "pod", Config: config, ...more } });
  return parseSandboxMetadata({ typeUrl: metadataTypeUrl, value: Buffer.from(text) });
}

const security = (fields: object) => ({ linux: { security_context: fields } });

suite("assertSandboxConfig()", () => {
  test("it lets through what kubelets send", () => {
    assertSandboxConfig(metadataOf({}));
    assertSandboxConfig(
      metadataOf(
        {
          hostname: "web-0.shop_1",
          dns_config: { servers: ["fd00::10"], searches: ["shop.svc.cluster.local"], options: [] },
          linux: {
            cgroup_parent: "/kubepods.slice/kubepods-pod_1..2.slice",
            sysctls: {
              "net.ipv4.ping_group_range": "0 2147483647",
              "net.ipv4.conf.eth0/100.forwarding": "1",
              "net/ipv4/ip_forward": "1\t2",
            },
            security_context: {
              run_as_user: { value: 2147483647 },
              selinux_options: { level: "s0:c123,c456" },
              namespace_options: {
                userns_options: {
                  uids: [{ host_id: 65536, length: 65536 }],
                  gids: [{ host_id: 65536, length: 65536 }],
                },
              },
            },
          },
        },
        { NetNSPath: "/run/netns/cni-1" },
      ),
    );
  });

  for (const [what, given, words] of [
    ["a long hostname", { hostname: "a".repeat(65) }, "longer than 64 bytes"],
    ["a hostname of two lines", { hostname: "a\nb" }, 'hostname "a\\nb": control character'],
    ["a hostname of two words", { hostname: "a b" }, 'hostname "a b": it has a space'],
    ["a hostname with a NUL", { hostname: "a\0" }, "control character"],
    [
      "a search domain that is a line more",
      { dns_config: { searches: ["a\nnameserver 6.6.6.6"] } },
      "dns_config.searches",
    ],
    ["a cgroup that climbs", { linux: { cgroup_parent: "/pods/../.." } }, "it climbs"],
    ["a cgroup with a NUL", { linux: { cgroup_parent: "/a\0b" } }, "control character"],
    ["a long cgroup", { linux: { cgroup_parent: `/${"a".repeat(5000)}` } }, "longer than 4096"],
    ["a sysctl that climbs", { linux: { sysctls: { "net.../kernel": "" } } }, "not the name of"],
    ["a sysctl above", { linux: { sysctls: { "../kernel.panic": "1" } } }, "not the name of"],
    ["an absolute sysctl", { linux: { sysctls: { "/kernel/panic": "1" } } }, "not the name of"],
    ["a sysctl without a name", { linux: { sysctls: { "": "1" } } }, "not the name of"],
    ["a sysctl of two lines", { linux: { sysctls: { a: "1\n2" } } }, "linux.sysctls.a"],
    [
      "very many sysctls",
      {
        linux: {
          sysctls: Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`a${i}`, ""])),
        },
      },
      "linux.sysctls: more than 1024",
    ],
    ["a negative user", security({ run_as_user: { value: -1 } }), "run_as_user"],
    ["a user beyond", security({ run_as_user: { value: 2 ** 31 } }), "no such id"],
    ["a group beyond", security({ supplemental_groups: [2 ** 32] }), "supplemental_groups"],
    [
      "an odd SELinux level",
      security({ selinux_options: { level: "s0; rm" } }),
      "the format of 'level' \"s0; rm\" is not correct",
    ],
    [
      "a user namespace without mappings",
      security({ namespace_options: { userns_options: { mode: 0 } } }),
      'can\'t use user namespace mode "POD" without UID and GID mappings',
    ],
  ] as const) {
    test(`it refuses ${what}`, () => {
      assert.throws(
        () => assertSandboxConfig(metadataOf(given)),
        (error: Error & { code?: string }) => {
          assert.ok(error.message.includes(words), error.message);
          assert.equal(error.code, "invalid-argument");
          return true;
        },
      );
    });
  }

  for (const path of ["netns/a", "../a", "/run/netns/a\nb", `/${"a".repeat(5000)}`]) {
    test(`it refuses the network namespace ${JSON.stringify(path.slice(0, 20))}`, () => {
      assert.throws(() => assertSandboxConfig(metadataOf({}, { NetNSPath: path })), {
        code: "invalid-argument",
        message: /^network namespace path "/,
      });
    });
  }
});
