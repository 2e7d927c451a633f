import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { podMappings, remapLabels } from "./user-namespace.ts";

const range = { containerId: 0, hostId: 65_536, length: 1_000 };

suite("user namespaces of pods", () => {
  test("podMappings() is undefined where the pod has the host's", () => {
    assert.equal(podMappings(undefined), undefined);
    assert.equal(podMappings({ mode: "node", uids: [], gids: [] }), undefined);
  });

  test("podMappings() and remapLabels() of a pod's own", () => {
    const mappings = podMappings({
      mode: "pod",
      uids: [range],
      gids: [{ ...range, hostId: 9, length: 500 }],
    });
    assert.ok(mappings);
    assert.deepEqual(mappings.uids, [{ containerID: 0, hostID: 65_536, size: 1_000 }]);
    assert.deepEqual(remapLabels(mappings), {
      "containerd.io/snapshot/uidmapping": "0:65536:1000",
      "containerd.io/snapshot/gidmapping": "0:9:500",
    });
  });

  for (const [options, words] of [
    [
      { mode: "node", uids: [range], gids: [] },
      'can\'t use user namespace mode "NODE" with mappings. Got 1 UID mappings and 0 GID mappings',
    ],
    [
      { mode: "pod", uids: [range], gids: [] },
      'can\'t use user namespace mode "POD" without UID and GID mappings',
    ],
    [{ mode: "target", uids: [], gids: [] }, 'unsupported user namespace mode: "TARGET"'],
    [
      { mode: "pod", uids: [range, range], gids: [range] },
      "UID mapping: only one mapping line supported, got 2 mapping lines",
    ],
    [
      { mode: "pod", uids: [range], gids: [{ ...range, length: 0 }] },
      "GID mapping: invalid mapping length: 0",
    ],
    [
      { mode: "pod", uids: [{ ...range, length: 0xffff_ffff }], gids: [range] },
      "UID mapping: no such range of ids: 0:65536:4294967295",
    ],
  ] as const) {
    test(`podMappings() refuses: ${words}`, () => {
      assert.throws(() => podMappings(options), {
        code: "invalid-argument",
        message: `user namespace configuration: ${words}: invalid argument`,
      });
    });
  }
});
