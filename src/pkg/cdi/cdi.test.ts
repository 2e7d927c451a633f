import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import { applyOptions, withEnv, withUserNamespace } from "#pkg/oci/spec-options.ts";
import { withUser } from "#pkg/oci/user.ts";
import { CdiRegistry } from "./cdi-registry.ts";
import { checkCdiSpec } from "./cdi-spec.ts";
import { tryParseQualifiedName } from "./names.ts";
import { neededVersion } from "./version.ts";

const plain = defaultSpec({ namespace: "n", id: "c" });

const gpu = {
  cdiVersion: "0.5.0",
  kind: "vendor.com/gpu",
  containerEdits: { env: ["DRIVER=1"] },
  devices: [
    { name: "0", containerEdits: { deviceNodes: [{ path: "/dev/gpu0", hostPath: "/dev/null" }] } },
    { name: "all", containerEdits: { env: ["ALL=1"] } },
  ],
};

/** Directories of files, each a text or an object; the later directory is the stronger. */
function directories(...given: Readonly<Record<string, string | object>>[]) {
  const dir = mkdtempDisposableSync(join(tmpdir(), "cdi-"));
  const paths = given.map((files, i) => {
    const path = join(dir.path, String(i));
    mkdirSync(path);
    for (const [name, file] of Object.entries(files)) {
      writeFileSync(join(path, name), typeof file === "string" ? file : JSON.stringify(file));
    }
    return path;
  });
  return { paths, [Symbol.dispose]: () => dir.remove() };
}

suite("CDI files", () => {
  test("read() takes JSON and YAML, and notes what is neither", async () => {
    const yaml =
      "cdiVersion: 0.3.0\nkind: other.org/nic\ndevices:\n- name: eth0\n  containerEdits:\n    env: [X=1]\n";
    using at = directories({
      "a.json": gpu,
      "b.yaml": yaml,
      "c.json": "{",
      "d.yaml": "a: [",
      "e.yaml": "",
      "f.txt": "ignored",
    });
    const registry = await CdiRegistry.read([...at.paths, "/nonexistent"]);
    const expected = ["other.org/nic=eth0", "vendor.com/gpu=0", "vendor.com/gpu=all"];
    assert.deepEqual(registry.devices(), expected);
    const wrong = [...registry.errors.keys()].map((path) => path.slice(-6));
    assert.deepEqual(wrong, ["c.json", "d.yaml", "e.yaml"]);
  });

  test("a stronger directory wins; two files of one are in conflict, and neither counts", async () => {
    const other = {
      ...gpu,
      cdiVersion: "0.5.0",
      devices: [{ name: "0", containerEdits: { env: ["STRONG=1"] } }],
    };
    using two = directories({ "a.json": gpu }, { "a.json": other });
    const strong = await CdiRegistry.read(two.paths);
    assert.equal(strong.errors.size, 0);
    const spec = (await strong.withDevices(["vendor.com/gpu=0"]))(plain);
    assert.ok(spec.process?.env?.includes("STRONG=1"));
    using same = directories({ "a.json": gpu, "b.json": other });
    const conflict = await CdiRegistry.read(same.paths);
    assert.deepEqual(conflict.devices(), ["vendor.com/gpu=all"]);
    assert.equal(conflict.errors.size, 2);
    const [[problem]] = [...conflict.errors.values()] as [[string]]; // -- just seen to be two
    assert.match(problem, /^conflicting device "vendor.com\/gpu=0" \(specs "/);
  });

  test("withDevices() names every device that there is none of", async () => {
    using at = directories({ "a.json": gpu });
    const registry = await CdiRegistry.read(at.paths);
    const wanted = ["vendor.com/gpu=0", "vendor.com/gpu=1", "x.org/y=z"];
    await assert.rejects(
      registry.withDevices(wanted),
      (error: Error) =>
        hasCode(error, "not-found") &&
        error.message.includes("unresolvable CDI devices vendor.com/gpu=1, x.org/y=z"),
    );
  });

  for (const [what, change] of [
    ["a version nobody published", { cdiVersion: "0.9.0" }],
    ["a version older than what is used", { cdiVersion: "0.4.0" }],
    ["a kind without class", { kind: "vendor.com" }],
    ["a vendor that is no name", { kind: "-v/gpu" }],
    ["no devices", { devices: [] }],
    ["the same device twice", { devices: [gpu.devices[1], gpu.devices[1]] }],
    ["a device without edits", { devices: [{ name: "a", containerEdits: {} }] }],
    ["a device that is no name", { devices: [{ name: "a/b", containerEdits: { env: ["A=1"] } }] }],
    ["a field nobody knows", { extra: 1 }],
    ["an environment that is none", { containerEdits: { env: ["A"] } }],
    [
      "permissions that are none",
      { containerEdits: { deviceNodes: [{ path: "/x", permissions: "q" }] } },
    ],
    ["a hook nobody runs", { containerEdits: { hooks: [{ hookName: "x", path: "/h" }] } }],
    [
      "a mount without a path",
      { containerEdits: { mounts: [{ hostPath: "", containerPath: "/a" }] } },
    ],
    [
      "a class of service that is a path",
      { cdiVersion: "1.1.0", containerEdits: { intelRdt: { closID: "../a" } } },
    ],
    [
      "a net device twice",
      {
        cdiVersion: "1.1.0",
        containerEdits: {
          netDevices: [
            { hostInterfaceName: "a", name: "b" },
            { hostInterfaceName: "a", name: "c" },
          ],
        },
      },
    ],
  ] as const) {
    test(`checkCdiSpec() refuses ${what}`, () => {
      assert.throws(
        () => checkCdiSpec({ ...gpu, ...change }),
        (error) => hasCode(error, "invalid-argument"),
      );
    });
  }

  test("neededVersion() is the oldest that has what is used", () => {
    const device = { name: "a", containerEdits: { env: ["A=1"] } };
    const needed = (change: object) =>
      neededVersion(
        checkCdiSpec({ cdiVersion: "1.1.0", kind: "v.com/c", devices: [device], ...change }),
      );
    assert.equal(needed({}), "0.3.0");
    const mounts = [{ hostPath: "/a", containerPath: "/b", type: "bind" }];
    assert.equal(needed({ containerEdits: { mounts } }), "0.4.0");
    assert.equal(needed({ devices: [{ ...device, name: "0" }] }), "0.5.0");
    assert.equal(needed({ kind: "v.com/a.b" }), "0.6.0");
    assert.equal(needed({ annotations: { a: "1" } }), "0.6.0");
    assert.equal(needed({ containerEdits: { additionalGids: [5] } }), "0.7.0");
    assert.equal(needed({ containerEdits: { intelRdt: { schemata: ["x"] } } }), "1.1.0");
  });

  test("tryParseQualifiedName() tells a device from a path", () => {
    const name = { vendor: "vendor.com", cdiClass: "gpu", device: "0:1" };
    assert.deepEqual(tryParseQualifiedName("vendor.com/gpu=0:1"), name);
    for (const text of ["/dev/null", "gpu=0", "v/g=", "v/=0", "v/g=a b", "", "v/g=0-"]) {
      assert.equal(tryParseQualifiedName(text), undefined, text);
    }
  });
});

suite("CDI edits", () => {
  async function injected(edits: object, before = plain) {
    const file = {
      cdiVersion: "1.1.0",
      kind: "v.com/c",
      devices: [{ name: "a", containerEdits: edits }],
    };
    using at = directories({ "a.json": file });
    return (await (await CdiRegistry.read(at.paths)).withDevices(["v.com/c=a"]))(before);
  }

  test("what a file says for all its devices is done once, before the devices'", async () => {
    using at = directories({ "a.json": gpu });
    const registry = await CdiRegistry.read(at.paths);
    const option = await registry.withDevices(["vendor.com/gpu=0", "vendor.com/gpu=all"]);
    const spec = applyOptions(plain, withEnv(["DRIVER=0"]), option);
    assert.deepEqual(spec.process?.env, ["DRIVER=1", "ALL=1"]);
  });

  test("a node is completed from the host's, and allowed", async () => {
    using at = directories({ "a.json": gpu });
    const option = await (await CdiRegistry.read(at.paths)).withDevices(["vendor.com/gpu=0"]);
    const spec = applyOptions(plain, withUser({ uid: 5, gid: 6 }), option);
    const [device] = spec.linux?.devices ?? [];
    const { path, type, major, minor, uid, gid } = device ?? {};
    assert.deepEqual([path, type, major, minor, uid, gid], ["/dev/gpu0", "c", 1, 3, 5, 6]);
    const rule = { allow: true, type: "c", major: 1, minor: 3, access: "rwm" };
    assert.deepEqual(spec.linux?.resources?.devices?.at(-1), rule);
  });

  test("a node that says everything needs no device on the host", async () => {
    const node = { path: "/dev/none", type: "b", major: 9, minor: 1, permissions: "none" };
    const spec = await injected({ deviceNodes: [node] });
    const device = { path: "/dev/none", type: "b", major: 9, minor: 1 };
    assert.deepEqual(spec.linux?.devices, [device]);
    assert.equal(spec.linux?.resources?.devices?.at(-1)?.access, "");
    await assert.rejects(
      injected({ deviceNodes: [{ path: "/dev/none" }] }),
      /failed to stat CDI host device "\/dev\/none"/,
    );
    // Empty is not given.
    const named = await injected({ deviceNodes: [{ path: "/dev/null", hostPath: "" }] });
    assert.equal(named.linux?.devices?.[0]?.minor, 3);
    await assert.rejects(
      injected({ deviceNodes: [{ path: "/dev/null", type: "b" }] }),
      /host type mismatch \(b, c\)/,
    );
  });

  test("mounts replace what is there, are ordered by depth, and mapped in a user namespace", async () => {
    const edits = {
      mounts: [
        { hostPath: "/lib/a", containerPath: "/usr/lib/a", options: ["ro", "rbind"] },
        { hostPath: "/mine", containerPath: "/run", options: ["bind"] },
      ],
    };
    const spec = await injected(edits);
    const destinations = spec.mounts?.map(({ destination }) => destination) ?? [];
    assert.equal(destinations.filter((path) => path === "/run").length, 1);
    assert.equal(destinations.at(-1), "/usr/lib/a");
    assert.ok(destinations.indexOf("/run") < destinations.indexOf("/dev/pts"));
    const ids = [{ containerID: 0, hostID: 1000, size: 10 }];
    const mapped = await injected(edits, withUserNamespace({ uids: ids, gids: ids })(plain));
    const optionsOf = (path: string) =>
      mapped.mounts?.find(({ destination }) => destination === path)?.options;
    assert.deepEqual(optionsOf("/usr/lib/a"), ["ro", "rbind", "ridmap"]);
    assert.deepEqual(optionsOf("/run"), ["bind", "idmap"]);
  });

  test("hooks, groups, interfaces and cache classes are added", async () => {
    const spec = await injected({
      hooks: [{ hookName: "createContainer", path: "/h", args: ["h"], env: ["A=1"], timeout: 1 }],
      additionalGids: [0, 44, 44],
      netDevices: [{ hostInterfaceName: "ib0", name: "eth1" }],
      intelRdt: { closID: "gold", schemata: ["L3:0=f"] },
    });
    assert.deepEqual(spec.hooks, {
      createContainer: [{ path: "/h", args: ["h"], env: ["A=1"], timeout: 1 }],
    });
    assert.deepEqual(spec.process?.user?.additionalGids, [44]);
    assert.deepEqual(spec.linux?.netDevices, { ib0: { name: "eth1" } });
    assert.deepEqual(spec.linux?.intelRdt, { closID: "gold", schemata: ["L3:0=f"] });
  });
});
