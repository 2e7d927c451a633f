import assert from "node:assert/strict";
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { configFile, launch, snapshotOf } from "#test/integration/daemon/launch.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { roomTest } from "#test/support/room.ts";

roomTest(
  "a socket behind which a daemon lives is refused, and that daemon goes on",
  async (room) => {
    const daemon = await startDaemon(room, { kind: "ours" });
    const before = await snapshotOf(daemon.root);
    const second = await launch(["--config", daemon.configFile]);
    assert.equal(second.code, 1);
    assert.ok(
      second.stderr.endsWith(
        "containerd: failed to get listener for main endpoint: " +
          `listen unix ${daemon.address}: bind: address already in use\n`,
      ),
      second.stderr,
    );
    const elsewhere = ["--root", `${room.dir}/r2`, "--state", `${room.dir}/s2`];
    const third = await launch(["--config", daemon.configFile, ...elsewhere]);
    assert.match(third.stderr, /bind: address already in use\n$/);
    assert.deepEqual(await snapshotOf(daemon.root), before);
    await assert.rejects(stat(`${room.dir}/r2`), { code: "ENOENT" });
    assert.match(await daemon.ctrOk(["version"]), /UUID/);
  },
);

roomTest("a root or a state that a daemon uses is refused, whatever the address", async (room) => {
  const daemon = await startDaemon(room, { kind: "ours" });
  const file = await configFile(room, "second");
  const sameRoot = await launch(["--config", file, "--root", daemon.root]);
  assert.equal(sameRoot.code, 1);
  assert.ok(
    sameRoot.stderr.endsWith(`containerd: root ${daemon.root} is in use by another containerd\n`),
    sameRoot.stderr,
  );
  const sameState = await launch(["--config", file, "--state", daemon.state]);
  assert.ok(
    sameState.stderr.endsWith(
      `containerd: state ${daemon.state} is in use by another containerd\n`,
    ),
    sameState.stderr,
  );
});

roomTest("the socket of a daemon that was killed is taken over", async (room) => {
  const daemon = await startDaemon(room, { kind: "ours" });
  await daemon.crash();
  assert.ok((await stat(daemon.address)).isSocket());
  await daemon.start();
  assert.match(await daemon.ctrOk(["version"]), /UUID/);
});

roomTest(
  "a root that Go's containerd has used is refused and left untouched",
  async (room) => {
    const go = await startDaemon(room, { kind: "go" });
    await go.ctrOk(["namespaces", "create", "kept"]);
    await go.stop();
    const before = await snapshotOf(go.root);
    const ours = await launch(["--config", go.configFile]);
    assert.equal(ours.code, 1);
    assert.ok(
      ours.stderr.endsWith(
        `containerd: root ${go.root} belongs to Go's containerd ` +
          `(it holds ${go.root}/io.containerd.metadata.v1.bolt/meta.db) and is left untouched; ` +
          "start with another --root: failed precondition\n",
      ),
      ours.stderr,
    );
    assert.deepEqual(await snapshotOf(go.root), before);
    await go.start();
    assert.match(await go.ctrOk(["namespaces", "ls"]), /kept/);
  },
  { needs: ["go"] },
);

roomTest(
  "a configuration that is not right is refused in one line, before anything is made",
  async (room) => {
    const refused = async (toml: string, ending: string | RegExp): Promise<void> => {
      const path = join(room.dir, "bad.toml");
      await writeFile(path, toml);
      const { code, stderr } = await launch(["--config", path, ...own]);
      const last = stderr.trimEnd().split("\n").at(-1) ?? "";
      assert.equal(code, 1, stderr);
      if (typeof ending === "string") assert.equal(last, `containerd: ${ending}`);
      else assert.match(last, ending);
    };
    const own = [
      "--root",
      `${room.dir}/r`,
      "--state",
      `${room.dir}/s`,
      "--address",
      `${room.dir}/g`,
    ];
    const file = `${room.dir}/bad.toml`;
    await refused(
      "version = 4\nroot = [",
      /^containerd: failed to load TOML from \S+bad\.toml: failed to unmarshal TOML at row 2 column \d+: /,
    );
    await refused(
      "version = 4\noom_score = 'low'",
      `failed to load TOML from ${file}: key oom_score: expected number, got "low": invalid argument`,
    );
    await refused(
      'version = 4\n[plugins."io.containerd.server.v1.grpc"]\nuid = "root"',
      "invalid configuration of plugin io.containerd.server.v1.grpc: " +
        'key uid: expected number, got "root": invalid argument',
    );
    await refused(
      "version = 7",
      `failed to load TOML from ${file}: ` +
        "expected containerd config version equal to or less than `4`, got `7`",
    );
    await refused(
      'version = 2\ndisabled_plugins = ["cri"]',
      `failed to load TOML from ${file}: ` +
        'invalid disabled plugin URI "cri" expect io.containerd.x.vx: invalid argument',
    );
    await refused(
      'version = 4\nrequired_plugins = ["io.containerd.none.v1.such"]',
      "required plugin [io.containerd.none.v1.such] not included",
    );
    await refused('version = 4\n[debug]\nlevel = "loud"', 'not a valid logrus Level: "loud"');
    await refused('version = 4\n[debug]\nformat = "xml"', "unknown log format: xml");
    await refused(
      'version = 4\n[timeouts]\n"io.containerd.timeout.task.state" = "2"',
      "key timeouts.io.containerd.timeout.task.state: unable to parse 2 into a time duration",
    );
    await refused(
      'version = 4\nimports = ["none.toml"]',
      `open ${room.dir}/none.toml: no such file or directory: not found`,
    );
    const missing = await launch(["--config", `${room.dir}/absent.toml`, ...own]);
    assert.deepEqual(
      [missing.code, missing.stderr],
      [1, `containerd: open ${room.dir}/absent.toml: no such file or directory: not found\n`],
    );
    const level = await launch([...own, "--log-level", "loud"]);
    assert.match(level.stderr, /containerd: not a valid logrus Level: "loud"\n$/);
    const same = await launch([
      "--root",
      `${room.dir}/x`,
      "--state",
      `${room.dir}/x`,
      "-a",
      `${room.dir}/g`,
    ]);
    assert.match(same.stderr, /containerd: root and state must be different paths\n$/);
    assert.deepEqual(
      (await readdir(room.dir)).filter((name) => !name.endsWith(".toml")),
      ["r", "s"],
    );
    assert.deepEqual(await readdir(`${room.dir}/r`), []);
  },
);
