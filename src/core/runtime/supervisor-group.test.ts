import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { legacyBootstrap } from "#core/runtime/bootstrap.ts";
import {
  groupFor,
  groupOf,
  type GroupRequest,
  type GroupSettings,
  withGroup,
} from "#core/runtime/supervisor-group.ts";
import type { Any } from "#pkg/any.ts";
import { isIdentifier } from "#pkg/identifier.ts";

const settings: GroupSettings = { grouping: "namespace", hasSchedCore: false, oomScore: 0 };
const request: GroupRequest = {
  namespace: "ns",
  id: "c1",
  sandboxId: "",
  spec: undefined,
  options: undefined,
};

function runcOptions(options: { shimCgroup?: string; binaryName?: string; root?: string }): Any {
  const value = toBinary(OptionsSchema, create(OptionsSchema, options));
  return { typeUrl: OptionsSchema.typeName, value };
}

function specWith(annotations: object): Any {
  return { typeUrl: "", value: Buffer.from(JSON.stringify({ annotations })) };
}

const idOf = (of: Partial<GroupRequest>, by: Partial<GroupSettings> = {}): string =>
  groupFor({ ...request, ...of }, { ...settings, ...by }).id;

test("containers share by namespace, pod or not at all", () => {
  const pod = { sandboxId: "p1" };
  assert.equal(idOf(pod), "ns");
  assert.equal(idOf(pod, { grouping: "pod" }), "p1");
  assert.equal(idOf(pod, { grouping: "container" }), "c1");
  assert.equal(idOf({}, { grouping: "pod" }), "c1");
});

test("a pod is known by its sandbox, then by annotation", () => {
  const spec = specWith({
    "io.containerd.runc.v2.group": "g1",
    "io.kubernetes.cri.sandbox-id": "p2",
  });
  assert.equal(idOf({ spec }, { grouping: "pod" }), "g1");
  assert.equal(idOf({ spec, sandboxId: "p1" }, { grouping: "pod" }), "p1");
  const cri = specWith({ "io.containerd.runc.v2.group": "", "io.kubernetes.cri.sandbox-id": "p2" });
  assert.equal(idOf({ spec: cri }, { grouping: "pod" }), "p2");
  for (const text of ["", "[]", '{"annotations":7}', '{"annotations":null}']) {
    const value = Buffer.from(text);
    assert.equal(idOf({ spec: { typeUrl: "", value } }, { grouping: "pod" }), "c1");
  }
});

test("what concerns the process gets one of its own, and the same shares it", () => {
  const ids = [
    idOf({}),
    idOf({ options: runcOptions({ shimCgroup: "/a" }) }),
    idOf({ options: runcOptions({ shimCgroup: "/b" }) }),
    idOf({ options: runcOptions({ binaryName: "crun" }) }),
    idOf({}, { oomScore: -500 }),
    idOf({}, { hasSchedCore: true }),
  ];
  assert.equal(new Set(ids).size, ids.length);
  const again = runcOptions({ shimCgroup: "/a", root: "/elsewhere" });
  assert.equal(idOf({ options: again }), ids[1]);
  assert.equal(idOf({ options: runcOptions({ root: "/elsewhere" }) }), "ns");
  assert.equal(groupFor({ ...request, options: again }, settings).cgroup, "/a");
  for (const id of ids) assert.ok(isIdentifier(id), id);
});

test("with a core-scheduling cookie no pods share a process", () => {
  const by = { hasSchedCore: true };
  assert.notEqual(idOf({ sandboxId: "p1" }, by), idOf({ sandboxId: "p2" }, by));
  assert.equal(idOf({ sandboxId: "p1", id: "c2" }, by), idOf({ sandboxId: "p1" }, by));
});

test("an annotation that is no name of a file becomes one", () => {
  const spec = specWith({ "io.containerd.runc.v2.group": "../../etc" });
  assert.ok(isIdentifier(idOf({ spec }, { grouping: "pod" })));
});

test("options of another type and broken ones ask for nothing", () => {
  assert.equal(idOf({ options: { typeUrl: "x.Options", value: Buffer.from("\x1a\x02/a") } }), "ns");
  const broken = { typeUrl: OptionsSchema.typeName, value: Buffer.from([0xff]) };
  assert.equal(idOf({ options: broken }), "ns");
});

test("a bundle keeps its group", () => {
  const bootstrap = legacyBootstrap("unix:///s");
  assert.equal(groupOf(bootstrap, "ns"), undefined);
  for (const cgroup of ["", "/a"]) {
    const group = { namespace: "ns", id: "g", cgroup };
    assert.deepEqual(groupOf(withGroup(bootstrap, group), "ns"), group);
  }
});
