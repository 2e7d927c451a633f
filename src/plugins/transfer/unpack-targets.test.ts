import assert from "node:assert/strict";
import { test } from "node:test";
import type { Differ } from "#core/diff/diff.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { formatPlatform, hostPlatform, type Platform } from "#pkg/platform.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";
import {
  type UnpackConfig,
  unpackTargets,
  type UnpackTargetsOptions,
} from "#plugins/transfer/unpack-targets.ts";

// -- nothing of them is called
const snapshotter = {} as Snapshotter;
const differ = (): Differ => ({}) as Differ;
const host = formatPlatform(hostPlatform());
const differs = new Map([
  ["walking", differ()],
  ["erofs", differ()],
  ["other", differ()],
]);

function record(type: string, id: string, more: Partial<PluginRecord> = {}): PluginRecord {
  const none = { platforms: [], capabilities: [], exports: new Map() };
  return { type, id, ...none, ...more } as unknown as PluginRecord; // -- as much of it as is read
}

const other: Platform = { os: "linux", architecture: "s390x" };
const plugins = [
  record("io.containerd.differ.v1", "erofs", { platforms: [hostPlatform()] }),
  record("io.containerd.differ.v1", "walking", { platforms: [hostPlatform()] }),
  record("io.containerd.differ.v1", "other", { platforms: [other] }),
  record("io.containerd.snapshotter.v1", "overlayfs", { capabilities: ["rebase"] }),
  record("io.containerd.snapshotter.v1", "stargz", {
    exports: new Map([["enable_remote_snapshot_annotations", "true"]]),
  }),
];

function targets(
  configs: readonly Partial<UnpackConfig>[] | undefined,
  more: Partial<UnpackTargetsOptions> = {},
): ReturnType<typeof unpackTargets> {
  const empty = { differ: "", config_type: "", layer_types: [], optional: false };
  return unpackTargets({
    configs: configs?.map((config) => ({
      platform: host,
      snapshotter: "overlayfs",
      ...empty,
      ...config,
    })),
    isStrict: false,
    snapshotters: new Map(["overlayfs", "native", "stargz"].map((name) => [name, snapshotter])),
    differs,
    plugins,
    ...more,
  });
}

test("without configuration it is the host's platform, the default snapshotter and differ", () => {
  const [only, ...others] = targets(undefined);
  assert.deepEqual([only?.snapshotterName, others.length], ["overlayfs", 0]);
  assert.equal(only?.applier, differs.get("walking"));
  assert.deepEqual([...(only?.capabilities ?? [])], ["rebase"]);
  assert.equal(only?.wantsImageInfo, false);
  assert.deepEqual(targets([]), []);
  assert.deepEqual(targets(undefined, { snapshotters: new Map() }), []);
});

test("a differ is the one that is named, or else one for the platform, the default one first", () => {
  const [named, found, foreign] = targets([
    { differ: "erofs" },
    {},
    { platform: "linux/s390x", snapshotter: "native" },
  ]);
  assert.equal(named?.applier, differs.get("erofs"));
  assert.equal(found?.applier, differs.get("walking"));
  assert.equal(foreign?.applier, differs.get("other"));
});

test("what is not there is an error, or left out where it is optional", () => {
  for (const [config, message] of [
    [{ snapshotter: "zfs" }, /snapshotter "zfs": not found/],
    [{ differ: "none" }, /no matching diff plugins: not found/],
    [{ platform: "linux/riscv64" }, /no matching diff plugins: not found/],
  ] as const) {
    assert.throws(() => targets([config]), { code: "not-found", message });
    assert.deepEqual(targets([{ ...config, optional: true }]), []);
  }
  assert.throws(
    () => targets([{ platform: "a/b/c/d" }]),
    /platform configuration "a\/b\/c\/d" inv/,
  );
});

test("images need be for the operating system, or for the platform itself where that is asked", () => {
  const matches = (isStrict: boolean) => {
    const [target] = targets([{ platform: "linux/amd64", differ: "walking" }], { isStrict });
    return ["linux/amd64", "linux/386", "linux/s390x", "windows/amd64"].filter((text) => {
      const [os = "", architecture = ""] = text.split("/");
      return target?.matches({ os, architecture });
    });
  };
  assert.deepEqual(matches(false), ["linux/amd64", "linux/386", "linux/s390x"]);
  assert.deepEqual(matches(true), ["linux/amd64", "linux/386"]);
});

test("types of layers and configurations, and what a snapshotter exports, are taken over", () => {
  const types = { config_type: "application/x.config", layer_types: ["application/x.layer"] };
  const [target] = targets([{ snapshotter: "stargz", ...types }]);
  assert.equal(target?.configType, "application/x.config");
  assert.deepEqual(target?.layerTypes, ["application/x.layer"]);
  assert.equal(target?.wantsImageInfo, true);
});
