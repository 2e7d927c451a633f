import assert from "node:assert/strict";
import { chmod, copyFile, cp, mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { run } from "#test/support/command.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const project = resolve(import.meta.dirname, "../..");

/** A project that consists of the launchers, a Node to be found, and a daemon that says how it was started. */
async function layOut(room: Room, { pinned }: { pinned: boolean }): Promise<string> {
  const root = join(room.dir, "project");
  await mkdir(join(root, "src/cmd/containerd"), { recursive: true });
  await mkdir(join(root, "src/cmd/containerd-shim-runc-v2"), { recursive: true });
  await cp(join(project, "bin"), join(root, "bin"), { recursive: true });
  const main = `console.log(JSON.stringify({
    limit: process.env.CONTAINERD_NOFILE_SOFT, args: process.argv.slice(2),
    node: process.execPath, path: process.env.PATH }));`;
  for (const name of ["containerd", "containerd-shim-runc-v2"]) {
    await writeFile(join(root, "src/cmd", name, "main.ts"), main);
  }
  const arch = process.arch === "arm64" ? "arm64" : "x64";
  const bin = join(root, `tools/node/node_modules/node-linux-${arch}/bin`);
  await mkdir(bin, { recursive: true });
  if (pinned) await copyFile(process.execPath, join(bin, "node"));
  return root;
}

/** A `node` that is too old, as one on PATH may be. */
async function oldNode(room: Room): Promise<string> {
  const folder = join(room.dir, "old");
  await mkdir(folder);
  await writeFile(join(folder, "node"), "#!/bin/sh\necho 20\n");
  await chmod(join(folder, "node"), 0o755);
  return folder;
}

roomTest("a launcher starts the pinned Node from anywhere, whatever PATH has", async (room) => {
  const root = await layOut(room, { pinned: true });
  const link = join(room.dir, "containerd");
  await symlink(join(root, "bin/containerd"), link);
  for (const env of [
    { PATH: `${await oldNode(room)}:/usr/bin:/bin` },
    { PATH: "/nonexistent" },
    {},
  ]) {
    const output = await run(["/bin/sh", "-c", `ulimit -S -n 777; exec ${link} a 'b c'`], {
      cwd: "/",
      env: { ...env, CONTAINERD_NOFILE_SOFT: "stale" },
    });
    assert.equal(output.stderr, "");
    const said: unknown = JSON.parse(output.stdout);
    const node = join(root, `tools/node/node_modules/node-linux-${process.arch}/bin/node`);
    assert.deepEqual(said, { limit: "777", args: ["a", "b c"], node, path: env.PATH ?? usual });
  }
});

roomTest("the shim's launcher keeps the limit its parent was started with", async (room) => {
  const root = await layOut(room, { pinned: true });
  const argv = [join(root, "bin/containerd-shim-runc-v2"), "start"];
  const env = { PATH: "/usr/bin:/bin" };
  const passedOn = await run(argv, { env: { ...env, CONTAINERD_NOFILE_SOFT: "555" } });
  assert.match(passedOn.stdout, /"limit":"555"/);
  const line = `ulimit -S -n 666; exec ${argv.join(" ")}`;
  assert.match((await run(["/bin/sh", "-c", line], { env })).stdout, /"limit":"666"/);
});

roomTest(
  "a launcher without the pinned Node takes a new one of PATH, not an old one",
  async (room) => {
    const root = await layOut(room, { pinned: false });
    const old = await oldNode(room);
    const fresh = join(room.dir, "fresh");
    await mkdir(fresh);
    await symlink(process.execPath, join(fresh, "node"));
    const argv = [join(root, "bin/containerd"), "x"];
    const found = await run(argv, { env: { PATH: `${old}:${fresh}:/usr/bin:/bin` } });
    assert.match(found.stdout, /"args":\["x"\]/);
  },
);

roomTest("a launcher runs the bundle unless a source is newer", async (room) => {
  const root = await layOut(room, { pinned: true });
  await mkdir(join(root, "tools"), { recursive: true });
  for (const file of ["tools/bundle.ts", "package-lock.json"])
    await writeFile(join(root, file), "");
  const bundle = join(root, ".cache/bundle/0123");
  await mkdir(bundle, { recursive: true });
  await writeFile(join(bundle, "containerd.js"), "console.log('bundle')");
  await symlink("0123", join(root, ".cache/bundle/current"));
  const said = async (): Promise<string> => (await run([join(root, "bin/containerd")])).stdout;
  const at = Date.now() / 1000;
  await utimes(bundle, at + 10, at + 10);
  assert.equal(await said(), "bundle\n");
  const source = join(root, "src/cmd/containerd/main.ts");
  await utimes(source, at + 20, at + 20);
  assert.match(await said(), /"args":\[\]/);
});
