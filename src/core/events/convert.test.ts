import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { TaskCreateSchema, TaskExitSchema } from "#api/events/task_pb.ts";
import * as convert from "#core/events/convert.ts";
import { eventField } from "#core/events/convert.ts";

test("a payload carries the bare name of its type", () => {
  const event = convert.taskExit({
    containerId: "c",
    id: "e",
    pid: 7,
    exitStatus: 137,
    exitedAt: 1_000_000_000_000_000_001n,
  });
  assert.equal(event.typeUrl, "containerd.events.TaskExit");
  const { containerId, id, pid, exitStatus, exitedAt } = fromBinary(TaskExitSchema, event.value);
  assert.deepEqual([containerId, id, pid, exitStatus], ["c", "e", 7, 137]);
  assert.deepEqual([exitedAt?.seconds, exitedAt?.nanos], [1_000_000_000n, 1]);
  assert.equal(
    convert.imageCreate({ name: "i", labels: {} }).typeUrl,
    "containerd.services.images.v1.ImageCreate",
  );
});

test("taskCreate() takes mounts and io along", () => {
  const io = { stdin: "", stdout: "/o", stderr: "/e", terminal: true };
  const mount = { type: "bind", source: "/s", target: "", options: ["ro", "rbind"] };
  const event = convert.taskCreate({
    containerId: "c",
    bundle: "/b",
    rootfs: [mount],
    io,
    checkpoint: "",
    pid: 1,
  });
  const { $typeName, ...decoded } = fromBinary(TaskCreateSchema, event.value);
  assert.equal($typeName, "containerd.events.TaskCreate");
  assert.deepEqual(decoded.rootfs[0]?.options, ["ro", "rbind"]);
  assert.equal(eventField(event, ["io", "stdout"]), "/o");
  assert.equal(eventField(event, ["io", "terminal"]), "true");
  assert.equal(eventField(event, ["io", "stdin"]), undefined);
  assert.equal(eventField(event, ["io"]), undefined);
});

test("eventField() reads strings by the names of the description, nothing else", () => {
  const exit = convert.taskExit({
    containerId: "c",
    id: "",
    pid: 7,
    exitStatus: 0,
    exitedAt: 0n,
  });
  assert.equal(eventField(exit, ["container_id"]), "c");
  assert.equal(eventField(exit, ["containerId"]), undefined);
  assert.equal(eventField(exit, ["id"]), undefined);
  assert.equal(eventField(exit, ["pid"]), undefined);
  assert.equal(eventField(exit, ["exited_at", "seconds"]), undefined);
  assert.equal(eventField(exit, []), undefined);
  const image = convert.imageUpdate({ name: "i", labels: { "a.b": "x", empty: "" } });
  assert.equal(eventField(image, ["labels", "a", "b"]), "x");
  assert.equal(eventField(image, ["labels", "empty"]), "");
  assert.equal(eventField(image, ["labels", "none"]), undefined);
  const content = convert.contentCreate({ digest: "sha256:00", sizeBytes: 5, mediaType: "m" });
  assert.equal(eventField(content, ["mediaType"]), "m");
  const container = convert.containerCreate({
    id: "c",
    image: "i",
    runtime: { name: "r", options: { typeUrl: "t", value: Buffer.from("v") } },
  });
  assert.equal(eventField(container, ["runtime", "name"]), "r");
  assert.equal(eventField(container, ["runtime", "options", "type_url"]), undefined);
});

test("eventField() knows no field of a payload that is unknown or broken", () => {
  const { typeUrl, value } = convert.imageDelete({ name: "i" });
  assert.equal(eventField({ typeUrl: `type.googleapis.com/${typeUrl}`, value }, ["name"]), "i");
  assert.equal(eventField({ typeUrl: "other.Message", value }, ["name"]), undefined);
  assert.equal(eventField({ typeUrl, value: Buffer.of(0x0a, 0x7f) }, ["name"]), undefined);
});
