import assert from "node:assert/strict";
import { test } from "node:test";
import {
  formatManifest,
  formatMessage,
  type HandoverMessage,
  messageBytesMax,
  parseManifest,
  parseMessage,
} from "#core/runtime/handover.ts";
import { codeOf } from "#pkg/errors.ts";

const isInvalid = (error: unknown): boolean => codeOf(error) === "invalid-argument";

test("messages and manifests are read as they were written", () => {
  const name = { containerId: "c1", execId: "", pid: 77 };
  const messages: readonly HandoverMessage[] = [
    { kind: "hold", ...name, roles: ["stdin", "pidfd"] },
    { kind: "release", ...name, execId: "e1", roles: ["client-stdin-keeper"] },
    { kind: "complete" },
  ];
  for (const message of messages) assert.deepEqual(parseMessage(formatMessage(message)), message);
  const processes = [{ ...name, roles: ["terminal", "client-stdout"] as const }];
  assert.deepEqual(parseManifest(formatManifest(processes).toString()), processes);
  assert.equal(formatManifest([]).length, 0);
  assert.deepEqual(parseManifest(""), []);
});

test("the longest message fits", () => {
  const id = "x".repeat(76);
  const roles = ["stdin", "stdout", "stderr", "terminal", "client-stdin", "client-stdin-keeper"];
  const all = [...roles, "client-stdout", "client-stderr", "pidfd"];
  const name = { containerId: id, execId: id, pid: 4_194_304 };
  const text = JSON.stringify({ kind: "release", ...name, roles: all });
  assert.ok(text.length <= messageBytesMax, String(text.length));
  assert.equal(parseMessage(Buffer.from(text)).kind, "release");
});

test("anything else is refused", () => {
  const bad = [
    "",
    "x",
    "[]",
    "null",
    '{"kind":"keep"}',
    '{"kind":"hold"}',
    '{"kind":"hold","containerId":"c","execId":"","roles":["stdin","stdin"]}',
    '{"kind":"hold","containerId":"c","execId":"","roles":["eye"]}',
    '{"kind":"hold","containerId":1,"execId":"","roles":[]}',
    '{"kind":"hold","containerId":"c","execId":"","pid":-1,"roles":[]}',
  ];
  for (const text of bad) assert.throws(() => parseMessage(Buffer.from(text)), isInvalid, text);
  for (const text of ["x", "{}", '{"processes":[1]}']) {
    assert.throws(() => parseManifest(text), isInvalid, text);
  }
});

test("a supervisor that does not say pids yet is understood", () => {
  const text = '{"kind":"hold","containerId":"c","execId":"","roles":["stdin"]}';
  const message = parseMessage(Buffer.from(text));
  assert.ok(message.kind === "hold");
  assert.equal(message.pid, 0);
});
