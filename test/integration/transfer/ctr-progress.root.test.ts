import assert from "node:assert/strict";
import { run } from "#test/support/command.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import { busyboxImage } from "#test/support/images.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { roomTest } from "#test/support/room.ts";

roomTest(
  "ctr 2.x draws a pull by the service as a tree, and a second one of what exists",
  async (room) => {
    const daemon = await startDaemon(room, { kind: "ours" });
    const served = { repository: "library/busybox", tag: "1", image: busyboxImage() };
    const registry = room.resources.use(await startRegistry([served]));
    const reference = `${registry.host}/library/busybox:1`;
    const pull = async (): Promise<string[]> => {
      const args = ["images", "pull", "--plain-http", reference];
      const output = await run([newerProgram("sid", "ctr"), ...args], { env: daemon.clientEnv });
      assert.equal(output.code, 0, output.stderr);
      return lastFrame(output.stdout);
    };
    assert.deepEqual(await pull(), [
      `${reference} saved`,
      "manifest complete",
      "config complete",
      "layer extracted",
      "layer extracted",
    ]);
    assert.deepEqual(await pull(), [
      `${reference} saved`,
      "manifest already exists",
      "config already exists",
    ]);
  },
  { needs: ["sid"] },
);

/** Names and states of the last tree, without digests and bars, children sorted. */
function lastFrame(output: string): string[] {
  const lines = output.split("\n");
  const start = lines.findLastIndex((line) => line.includes("\tsaved"));
  const end = lines.findIndex((line, i) => i > start && line.includes("sha256:"));
  const [root = "", ...parts] = lines.slice(start, end).map((line) => {
    const [name = "", state = ""] = line.split("\t");
    const short = name.replaceAll(/[└├─ ]/g, "").replace(/\(\w+\)/, "");
    return `${short} ${state.trim()}`;
  });
  const [manifest = "", ...children] = parts;
  return [root, manifest, ...children.toSorted()];
}
