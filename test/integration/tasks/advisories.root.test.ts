import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { commandPath } from "#test/support/needs.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  outputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "./harness.ts";

const specUrl = "types.containerd.io/opencontainers/runtime-spec/1/Process";

function optionsOf(binaryName: string) {
  const value = toBinary(OptionsSchema, create(OptionsSchema, { binaryName }));
  return { typeUrl: OptionsSchema.typeName, value };
}

async function runContainer(
  daemon: TaskDaemon,
  room: Room,
  options: { script: string; runtime: string },
): Promise<void> {
  const { ctx, tasks } = daemon;
  await recordContainer(daemon, room, "c1", { args: shell(options.script) });
  const container = daemon.containers.get("c1");
  assert.ok(container);
  const runtime = { name: container.runtime.name, options: optionsOf(options.runtime) };
  daemon.containers.set("c1", { ...container, runtime });
  await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
  await tasks.start(ctx, { containerId: "c1" });
}

async function removeContainer({ ctx, tasks }: TaskDaemon): Promise<void> {
  const exit = tasks.wait(ctx, { containerId: "c1" });
  await tasks.kill(ctx, { containerId: "c1", signal: 9 });
  await exit;
  await tasks.delete(ctx, { containerId: "c1" });
}

/** Runs a command to its end; what a runtime says when it refuses to is an answer as well. */
async function answerOf(
  daemon: TaskDaemon,
  room: Room,
  options: { id: string; args: readonly string[]; cwd?: string },
): Promise<string> {
  const { ctx, tasks } = daemon;
  const { id: execId, args, cwd = "/" } = options;
  const stdout = outputFifo(room, execId);
  const process = { ...processSpec(args), cwd };
  const spec = { typeUrl: specUrl, value: Buffer.from(JSON.stringify(process)) };
  const io = { stdout: stdout.path, stderr: stdout.path };
  await tasks.exec(ctx, { containerId: "c1", execId, spec, ...io });
  try {
    await tasks.start(ctx, { containerId: "c1", execId });
    await tasks.wait(ctx, { containerId: "c1", execId });
  } catch (error) {
    return String(error);
  } finally {
    await tasks.deleteProcess(ctx, { containerId: "c1", execId });
  }
  return stdout.text();
}

for (const runtime of ["runc", "crun"] as const) {
  suite(`advisories, with ${runtime}`, () => {
    const needs = [runtime];

    roomTest(
      "CVE-2019-5736: no process of a container writes to the runtime's binary",
      async (room) => {
        const path = commandPath(runtime) ?? "";
        const hash = (): string => createHash("sha256").update(readFileSync(path)).digest("hex");
        const before = hash();
        const daemon = await startTaskDaemon(room);
        // The runtime's own process shows up here on its way to becoming an exec.
        const attack =
          "while :; do for p in /proc/[0-9]*; do case $(busybox readlink $p/exe) in " +
          "/bin/busybox) ;; ?*) (echo owned >$p/exe) 2>/dev/null && echo won >>/tmp/won;; esac; done; done";
        await runContainer(daemon, room, { script: attack, runtime });
        for (const n of [1, 2, 3]) {
          await answerOf(daemon, room, { id: `e${n}`, args: ["/proc/self/exe"] });
        }
        const won = await answerOf(daemon, room, {
          id: "won",
          args: shell("busybox cat /tmp/won; echo looked"),
        });
        assert.match(won, /looked/);
        // runc lets a copy of itself be written to, which is nobody's afterwards.
        assert.equal(hash(), before);
        await removeContainer(daemon);
      },
      { needs },
    );

    roomTest(
      "CVE-2024-21626: no descriptor of the runtime leads out of a container",
      async (room) => {
        const marker = join(room.dir, "marker");
        writeFileSync(marker, "of the host\n");
        const daemon = await startTaskDaemon(room);
        await runContainer(daemon, room, { script: "sleep 1000", runtime });
        const up = "../".repeat(12);
        for (let fd = 3; fd < 12; fd++) {
          const answer = await answerOf(daemon, room, {
            id: `cwd${fd}`,
            cwd: `/proc/self/fd/${fd}`,
            args: shell(`busybox cat ${up}${marker.slice(1)}; echo tried`),
          });
          assert.doesNotMatch(answer, /of the host/, `descriptor ${fd}`);
        }
        const fds = await answerOf(daemon, room, {
          id: "fds",
          args: shell("busybox ls /proc/self/fd; echo end"),
        });
        // The last is the directory that is being listed.
        assert.equal(fds, "0\n1\n2\n3\nend\n");
        await removeContainer(daemon);
      },
      { needs },
    );
  });
}

roomTest(
  "CVE-2020-15257: sockets of supervisors are files that only root may open",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    await runContainer(daemon, room, { script: "sleep 1000", runtime: "runc" });
    const sockets = join(room.dir, "s");
    assert.equal(statSync(sockets).mode & 0o777, 0o700);
    const found = readdirSync(sockets);
    assert.ok(found.length > 0);
    for (const name of found) {
      assert.equal(statSync(join(sockets, name)).mode & 0o177, 0, name);
    }
    const abstract = readFileSync("/proc/net/unix", "utf8")
      .split("\n")
      .filter((line) => line.includes("@") && line.includes(room.namespace));
    assert.deepEqual(abstract, []);
    await removeContainer(daemon);
  },
  { needs: ["runc"] },
);

roomTest(
  "CVE-2021-41103, CVE-2024-25621: nobody but root looks into roots, bundles and states",
  async (room) => {
    const daemon = await startDaemon(room, { kind: "ours" });
    const image = "docker.io/library/busybox:1";
    await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
    await daemon.ctrOk(["run", "-d", image, "c1", "sleep", "1000"]);
    const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);
    const bundles = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace);
    assert.equal(modeOf(daemon.root), "700");
    assert.equal(modeOf(daemon.state), "711");
    assert.equal(modeOf(bundles), "711");
    assert.equal(modeOf(join(bundles, "c1")), "700");
    assert.equal(modeOf(join(bundles, "c1", "config.json")), "600");
    await daemon.ctrOk(["t", "rm", "-f", "c1"]);
    await daemon.ctrOk(["c", "rm", "c1"]);
  },
  { needs: ["runc"] },
);
