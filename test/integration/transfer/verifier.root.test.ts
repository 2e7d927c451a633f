import assert from "node:assert/strict";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Judgement } from "#core/images/image-verifier.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { parseDigest } from "#pkg/digest.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { BindirVerifier } from "#plugins/image-verifier/bindir/bindir-verifier.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { helloImage } from "#test/support/images.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { storeObject } from "./local-transfer.ts";

const digest = parseDigest(`sha256:${"9".repeat(64)}`);
const target: Descriptor = {
  mediaType: "application/vnd.docker.distribution.manifest.list.v2+json",
  digest,
  sizeBytes: 2048,
  annotations: { a: "b<" },
};
const name = "registry.example.com/image:abc";

interface Trial {
  readonly binDir: string;
  /** Shell text by program name, in a directory of their own. */
  readonly verify: (options?: {
    max?: number;
    timeoutMs?: number;
    target?: Descriptor;
  }) => Promise<Judgement>;
}

async function trial(room: Room, programs: Readonly<Record<string, string>>): Promise<Trial> {
  const binDir = join(room.dir, "bin");
  await mkdir(binDir);
  for (const [program, text] of Object.entries(programs)) {
    await writeFile(join(binDir, program), `#!/bin/sh\n${text}\n`);
    await chmod(join(binDir, program), 0o755);
  }
  const reaper = room.resources.use(new Reaper({ sys: linux, mode: "known" }));
  return {
    binDir,
    verify({ max = -1, timeoutMs = 30_000, target: given = target } = {}) {
      const verifier = new BindirVerifier({
        binDir,
        verifiersMax: max,
        timeoutMs,
        programs: new SpawnedPrograms({ sys: linux, spawn: spawnProcess, reaper }),
        env: { PATH: "/usr/bin:/bin", OUT: room.dir },
      });
      return verifier.verify(Context.background({ signal: room.signal }), name, given);
    },
  };
}

roomTest("a verifier is given name, digest and descriptor, and says why", async (room) => {
  const { verify } = await trial(room, {
    v: 'printf "%s\\n" "$@" >$OUT/args; cat >$OUT/stdin; echo " line 1"; echo "line 2 "; echo no >&2',
  });
  const judgement = await verify();
  assert.deepEqual(judgement, { isAccepted: true, reason: "v => line 1\nline 2" });
  const args = await readFile(join(room.dir, "args"), "utf8");
  const type = "application/vnd.oci.descriptor.v1+json";
  assert.equal(args, `-name\n${name}\n-digest\n${digest}\n-stdin-media-type\n${type}\n`);
  const document = { mediaType: target.mediaType, digest, size: 2048, annotations: { a: "b<" } };
  assert.deepEqual(JSON.parse(await readFile(join(room.dir, "stdin"), "utf8")), document);
});

roomTest("one that objects is enough, and those after it are not asked", async (room) => {
  const programs = { a: "echo A", b: "echo B", c: "echo C; exit 3", d: "touch $OUT/asked" };
  const { verify } = await trial(room, programs);
  const rejected = "verifier c rejected image (exit code 3): C";
  assert.deepEqual(await verify(), { isAccepted: false, reason: rejected });
  await assert.rejects(readFile(join(room.dir, "asked")), { code: "ENOENT" });
  assert.deepEqual(await verify({ max: 2 }), { isAccepted: true, reason: "a => A, b => B" });
  assert.deepEqual(await verify({ max: 0 }), { isAccepted: true, reason: "" });
});

roomTest("no directory and none in it accept; what cannot be run is an error", async (room) => {
  const { binDir, verify } = await trial(room, {});
  const none = { isAccepted: true, reason: `no image verifier binaries found in ${binDir}` };
  assert.deepEqual(await verify(), none);
  await writeFile(join(binDir, "bad"), "no program");
  const words = /^failed to call verifier bad \(runtime .*\): fork\/exec .*: /;
  for (const [mode, why] of [
    [0o644, "permission denied"],
    [0o755, "exec format error"],
  ] as const) {
    await chmod(join(binDir, "bad"), mode);
    await assert.rejects(verify(), { message: new RegExp(`${words.source}${why}$`) });
  }
});

roomTest("much output, and a descriptor that nobody reads, hold up nothing", async (room) => {
  const { verify } = await trial(room, {
    a: "head -c 3000000 /dev/zero | tr '\\0' x",
    b: "head -c 3000000 /dev/zero | tr '\\0' y >&2",
  });
  const annotations = { large: "0".repeat(200_000) };
  const { isAccepted, reason } = await verify({ target: { ...target, annotations } });
  assert.equal(isAccepted, true);
  assert.equal(reason, `a => ${"x".repeat(32_768)}(stdout truncated), b => `);
});

roomTest("one that takes too long is killed with what it started", async (room) => {
  const { verify } = await trial(room, { slow: "sleep 1000 & echo $! >$OUT/child; wait" });
  const slow = verify({ timeoutMs: 1_500 });
  await assert.rejects(slow, /^.*verifier slow.*: waiting on command to exit: signal: killed/);
  const child = Number(await readFile(join(room.dir, "child"), "utf8"));
  await until("the child ends", async () => {
    const info = await processInfo(child);
    return info === undefined || info.state === "Z";
  });
});

const section = '[plugins."io.containerd.image-verifier.v1.bindir"]';

roomTest("pulls of the daemon ask them before anything but the name", async (room) => {
  const served = { repository: "hello", tag: "1", image: helloImage("hi\n") };
  const registry = room.resources.use(await startRegistry([served]));
  const { binDir } = await trial(room, {
    judge: `case "$2" in */hello:1) echo fine;; *) echo "$2 is none of ours"; exit 1;; esac`,
  });
  const config = `${section}\n  bin_dir = ${JSON.stringify(binDir)}\n`;
  const daemon = await startDaemon(room, { kind: "ours", config });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const transferrer = new GrpcTransferrer(transport);
  const pull = async (reference: string): Promise<void> => {
    const none = { headers: {}, hostDir: "", credentials: undefined };
    const from: RegistryObject = { kind: "registry", reference, ...none, defaultScheme: "http" };
    await transferrer.transfer(ctx, from, storeObject({ name: reference }));
  };
  await pull(`${registry.host}/hello:1`);
  const before = registry.requests.length;
  const other = `${registry.host}/hello@${served.image.target.digest}`;
  const words = `image verifier bindir blocked pull of ${other} with digest ${served.image.target.digest} for reason: `;
  await assert.rejects(pull(other), {
    code: "unknown",
    message: `${words}verifier judge rejected image (exit code 1): ${other} is none of ours`,
  });
  const asked = registry.requests.slice(before);
  assert.deepEqual(asked, [`HEAD /v2/hello/manifests/${served.image.target.digest} 200`]);
  assert.doesNotMatch(await daemon.ctrOk(["i", "ls", "-q"]), /@/);
});
