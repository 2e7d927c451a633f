import assert from "node:assert/strict";
import { appendFile, readFile, stat } from "node:fs/promises";
import { configFile, launchDaemon } from "#test/integration/daemon/launch.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";

const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o7777;

roomTest("ctr finds version, identity and plugins; both survive a restart", async (room) => {
  const daemon = await startDaemon(room);
  const version = await daemon.ctrOk(["version"]);
  assert.match(
    version,
    /Server:\n {2}Version: {2}\S+\n {2}Revision: \S*\n {2}UUID: [0-9a-f-]{36}\n/,
  );
  const uuid = /UUID: (\S+)/.exec(version)?.[1];
  const plugins = await daemon.ctrOk(["plugins", "ls"]);
  const rows = plugins
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  assert.deepEqual(rows[0], ["TYPE", "ID", "PLATFORMS", "STATUS"]);
  for (const uri of [
    "event.v1 exchange",
    "grpc.v1 version",
    "grpc.v1 events",
    "grpc.v1 healthcheck",
  ]) {
    const [type, id] = uri.split(" ");
    assert.ok(
      rows.some((row) => row[0] === `io.containerd.${type}` && row[1] === id && row[3] === "ok"),
      `${uri}\n${plugins}`,
    );
  }
  assert.equal(await daemon.stop(), 0);
  await assert.rejects(stat(daemon.address), { code: "ENOENT" });
  await daemon.start();
  assert.equal(/UUID: (\S+)/.exec(await daemon.ctrOk(["version"]))?.[1], uuid);
});

roomTest("folders and sockets have upstream's modes", async (room) => {
  const daemon = await startDaemon(room);
  // It may accept calls on one socket before it has made the other.
  await until("it has booted", async () => /successfully booted/.test(await daemon.log()));
  assert.deepEqual([await mode(daemon.root), await mode(daemon.state)], [0o700, 0o711]);
  for (const path of [daemon.address, `${daemon.address}.ttrpc`]) {
    assert.equal(await mode(path), 0o660);
    const { uid, gid } = await stat(path);
    assert.deepEqual([uid, gid], [0, 0]);
  }
});

roomTest(
  "sockets belong to whom the configuration says, in a folder made for them",
  async (room) => {
    const file = await configFile(room, "own");
    const address = `${room.dir}/made/sock`;
    await appendFile(file, "  uid = 54321\n  gid = 12345\n");
    await launchDaemon(room, ["--config", file, "--address", address]);
    const owner = async (path: string): Promise<number[]> => {
      const { uid, gid } = await stat(path);
      return [uid, gid, await mode(path)];
    };
    assert.deepEqual(await owner(address), [0, 0, 0o660]);
    // The file has a section for ttrpc, so the flag leaves that alone.
    assert.deepEqual(await owner(`${room.dir}/own/t`), [54321, 12345, 0o660]);
    assert.deepEqual(await owner(`${room.dir}/made`), [0, 0, 0o750]);
  },
);

roomTest("the log is logrus' text, or JSON where asked for", async (room) => {
  const text = await configFile(room, "text");
  const daemon = await launchDaemon(room, ["--config", text, "--log-level", "debug"]);
  const lines = daemon.log().trim().split("\n");
  for (const line of lines) assert.match(line, /^time="\d{4}-\S{24}Z" level=\w+ msg=/);
  assert.ok(lines.some((line) => /level=debug/.test(line)));
  assert.ok(lines.some((line) => /msg="starting containerd" revision=\S* version=v/.test(line)));
  const json = await configFile(room, "json", '[debug]\n  format = "json"');
  const other = await launchDaemon(room, ["--config", json]);
  for (const line of other.log().trim().split("\n")) {
    const { level, msg, time } = JSON.parse(line) as Record<string, unknown>; // -- one of ours
    assert.ok(typeof level === "string" && typeof msg === "string" && typeof time === "string");
  }
});

roomTest("an OOM score is applied, or refused with one warning and nothing else", async (room) => {
  for (const score of [500, -999]) {
    const file = await configFile(room, `oom${score}`, `oom_score = ${score}`);
    const daemon = await launchDaemon(room, ["--config", file]);
    const refusals = daemon
      .log()
      .match(new RegExp(`level=warning msg="failed to change OOM score to ${score}"`, "g"));
    const now = (await readFile(`/proc/${daemon.pid}/oom_score_adj`, "utf8")).trim();
    if (now === String(score)) assert.equal(refusals, null);
    else assert.equal(refusals?.length, 1);
    await daemon.stop();
  }
});
