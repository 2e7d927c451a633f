import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { containerd, launch } from "#test/integration/daemon/launch.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { roomTest } from "#test/support/room.ts";

roomTest("config default prints what loads back unchanged, without a warning", async (room) => {
  const printed = await launch(["config", "default"]);
  assert.deepEqual([printed.code, printed.stderr], [0, ""]);
  assert.match(
    printed.stdout,
    /^version = 4\nroot = '\/var\/lib\/containerd'\nstate = '\/run\/containerd'\n/,
  );
  assert.match(
    printed.stdout,
    /\n {2}\[plugins\.'io\.containerd\.server\.v1\.grpc'\]\n {4}address = '/,
  );
  const path = join(room.dir, "default.toml");
  await writeFile(path, printed.stdout);
  for (const command of ["dump", "migrate"]) {
    const again = await launch(["--config", path, "config", command]);
    assert.deepEqual([again.code, again.stderr, again.stdout], [0, "", printed.stdout]);
  }
  // Flags are taken on either side of the command, and a file that is not there is only missed when
  // it was named.
  const none = await launch(["config", "dump", "--config", join(room.dir, "none.toml")]);
  assert.equal(none.code, 1);
});

roomTest("config dump shows what is in effect of an old file and its imports", async (room) => {
  await mkdir(join(room.dir, "conf.d"));
  const main = join(room.dir, "main.toml");
  await writeFile(
    main,
    'version = 2\nimports = ["conf.d/*.toml"]\n[grpc]\n  address = "/a"\n  uid = 7\n',
  );
  await writeFile(join(room.dir, "conf.d/a.toml"), 'version = 3\nroot = "/from-import"\n');
  const dumped = await launch(["-c", main, "config", "dump"]);
  assert.equal(dumped.code, 0);
  assert.match(dumped.stderr, /level=warning msg="Configuration migrated from version 2, use/);
  assert.match(dumped.stdout, /^version = 4\nroot = '\/from-import'\n/);
  assert.match(
    dumped.stdout,
    /\[plugins\.'io\.containerd\.server\.v1\.grpc'\]\n {4}address = '\/a'\n {4}uid = 7\n {4}gid = 0\n/,
  );
  assert.match(dumped.stdout, /server\.v1\.ttrpc'\]\n {4}address = '\/a\.ttrpc'\n {4}uid = 7\n/);
});

roomTest("keys nobody knows are warnings with their path", async (room) => {
  const daemon = await startDaemon(room, {
    kind: "ours",
    config: [
      "[colours]",
      "  red = true",
      '[plugins."io.containerd.server.v1.grpc"]',
      `  address = "${join(room.dir, "daemon/s/containerd.sock")}"`,
      "  shade = 1",
      '[plugins."io.containerd.none.v1.such"]',
      "  a = 1",
      "[cgroup]",
      '  path = "/x"',
    ].join("\n"),
  });
  const log = await daemon.log();
  assert.match(log, /level=warning msg="Ignoring unknown key in TOML" file=\S+ key=colours\n/);
  assert.match(
    log,
    /msg="Ignoring unknown key in TOML for plugin" key=shade plugin=io\.containerd\.server\.v1\.grpc\n/,
  );
  assert.match(
    log,
    /msg="Ignoring configuration of an unknown plugin" plugin=io\.containerd\.none\.v1\.such\n/,
  );
  assert.match(log, /msg="Ignoring key in TOML that is not supported yet" key=cgroup\.path\n/);
});

roomTest("--version has upstream's four fields, and bad usage is told", async () => {
  for (const flag of ["--version", "-v"]) {
    const { code, stdout } = await launch([flag]);
    assert.equal(code, 0);
    assert.match(stdout, /^containerd containerd-ts v\d+\.\d+\.\d+\S* [0-9a-f]*\n$/);
  }
  const help = await launch(["--help"]);
  for (const flag of ["-c, --config", "-l, --log-level", "-a, --address", "--root", "--state"]) {
    assert.ok(help.stdout.includes(flag), flag);
  }
  const unknown = await launch(["--no-such-flag"]);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /unknown option '--no-such-flag'/);
  assert.ok(containerd.endsWith("bin/containerd"));
});
