import assert from "node:assert/strict";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { runDebian } from "#test/support/debian.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { startDockerRegistry } from "#test/support/registry/docker-registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { storeObject } from "./local-transfer.ts";
import { runOk } from "#test/support/command.ts";

// skopeo and umoci, which share no code with containerd, read what is exported here and write what is imported.

const name = "registry.test/image:1";

interface Trial {
  readonly daemon: Daemon;
  /** `skopeo copy` between two places. */
  readonly copy: (from: string, to: string, ...flags: string[]) => Promise<void>;
  readonly umoci: (...args: string[]) => Promise<void>;
  readonly at: (name: string) => string;
  /** What `cat /etc/motd` prints in a container of the image. */
  readonly motd: (image: string) => Promise<string>;
}

async function start(room: Room): Promise<Trial> {
  const daemon = await startDaemon(room, { kind: "ours" });
  const env = { HOME: room.dir, TMPDIR: room.dir };
  const succeed = async (program: "skopeo" | "umoci", args: readonly string[]): Promise<void> => {
    const { code, stdout, stderr } = await runDebian(program, args, { env });
    assert.equal(code, 0, `${program} ${args.join(" ")}\n${stdout}${stderr}`);
  };
  let count = 0;
  return {
    daemon,
    copy: (from, to, ...flags) =>
      succeed("skopeo", ["--insecure-policy", "copy", ...flags, from, to]),
    umoci: (...args) => succeed("umoci", args),
    at: (file) => join(room.dir, file),
    motd: (image) => daemon.ctrOk(["run", "--rm", image, `c${count++}`, "cat", "/etc/motd"]),
  };
}

roomTest("skopeo and umoci read what is exported", async (room) => {
  const { daemon, copy, umoci, at } = await start(room);
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), name) });
  await daemon.ctrOk(["i", "export", at("out.tar"), name]);
  await copy(`docker-archive:${at("out.tar")}`, `oci:${at("as-docker")}:1`);
  await copy(`oci-archive:${at("out.tar")}`, `oci:${at("layout")}:1`);
  for (const layout of ["as-docker", "layout"]) {
    await umoci("unpack", "--image", `${at(layout)}:1`, at(`bundle-${layout}`));
    const file = join(at(`bundle-${layout}`), "rootfs/etc/motd");
    assert.equal(await readFile(file, "utf8"), "second layer\n");
  }
  const manifest = busyboxImage().target.digest.replace("sha256:", "");
  assert.ok((await readdir(at("layout/blobs/sha256"))).includes(manifest));
});

roomTest("what skopeo and umoci write is imported and runs", async (room) => {
  const { daemon, copy, umoci, at, motd } = await start(room);
  await writeFile(at("in.tar"), ociArchive(busyboxImage(), name));
  await copy(
    `oci-archive:${at("in.tar")}`,
    `docker-archive:${at("save.tar")}:registry.test/saved:2`,
  );
  await daemon.ctrOk(["i", "import", at("save.tar")]);
  assert.equal(await motd("registry.test/saved:2"), "second layer\n");

  await copy(`oci-archive:${at("in.tar")}`, `oci:${at("layout")}:1`);
  await umoci("unpack", "--image", `${at("layout")}:1`, at("bundle"));
  await writeFile(join(at("bundle"), "rootfs/etc/motd"), "of umoci\n");
  await umoci("repack", "--image", `${at("layout")}:2`, at("bundle"));
  await runOk(["tar", "-C", at("layout"), "-cf", at("layout.tar"), "."]);
  await daemon.ctrOk(["i", "import", "--base-name", "registry.test/umoci", at("layout.tar")]);
  assert.equal(await motd("registry.test/umoci:1"), "second layer\n");
  assert.equal(await motd("registry.test/umoci:2"), "of umoci\n");
});

roomTest("images go between skopeo and the daemon by a registry, in every form", async (room) => {
  const { daemon, copy, at, motd } = await start(room);
  const registry = await startDockerRegistry(room);
  const { host } = registry;
  await writeFile(at("in.tar"), ociArchive(busyboxImage(), name));
  const forms: Readonly<Record<string, readonly string[]>> = {
    docker: ["--format", "v2s2"],
    zstd: ["--format", "oci", "--dest-compress-format", "zstd", "--dest-compress-level", "3"],
    chunked: ["--format", "oci", "--dest-compress-format", "zstd:chunked"],
    oci: ["--format", "oci"],
  };
  for (const [tag, flags] of Object.entries(forms)) {
    const place = `docker://${host}/image:${tag}`;
    await copy(`oci-archive:${at("in.tar")}`, place, "--dest-tls-verify=false", ...flags);
    await daemon.ctrOk(["i", "pull", "--plain-http", `${host}/image:${tag}`]);
    assert.equal(await motd(`${host}/image:${tag}`), "second layer\n", tag);
  }
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const none = { headers: {}, hostDir: "", defaultScheme: "http", credentials: undefined };
  const to: RegistryObject = { kind: "registry", reference: `${host}/back:1`, ...none };
  const from = storeObject({ name: `${host}/image:docker` });
  await new GrpcTransferrer(transport).transfer(ctx, from, to);
  await mkdir(at("back"));
  await copy(`docker://${host}/back:1`, `dir:${at("back")}`, "--src-tls-verify=false");
  assert.match(await readFile(join(at("back"), "manifest.json"), "utf8"), /docker\.distribution/);
});
