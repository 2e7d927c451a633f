import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { capabilitiesOf, parseProcStatus } from "#pkg/oci/capabilities.ts";
import { debianProgram } from "#test/support/debian.ts";
import { roomTest } from "#test/support/room.ts";
import {
  outputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
  untilText,
} from "./harness.ts";

const runtimes = {
  "our supervisor": () => "io.containerd.runc.v2",
  "a shim of Go containerd 1.6": () =>
    join(dirname(debianProgram("containerd")), "containerd-shim-runc-v2"),
} as const;

function processAny(process: object) {
  return {
    typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
    value: Buffer.from(JSON.stringify(process)),
  };
}

async function runContainer(daemon: TaskDaemon): Promise<void> {
  const { ctx, tasks } = daemon;
  await tasks.start(ctx, { containerId: "c1" });
}

async function removeContainer({ ctx, tasks }: TaskDaemon): Promise<void> {
  const exit = tasks.wait(ctx, { containerId: "c1" });
  await tasks.kill(ctx, { containerId: "c1", signal: 9 });
  await exit;
  await tasks.delete(ctx, { containerId: "c1" });
}

for (const [what, runtime] of Object.entries(runtimes)) {
  roomTest(
    `an exec has its own user, groups, capabilities, directory and limits, through ${what}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      await recordContainer(daemon, room, "c1", { args: shell("sleep 1000"), runtime: runtime() });
      await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
      await runContainer(daemon);
      const stdout = outputFifo(room, "out");
      const script = "busybox id; pwd; echo $WHO; ulimit -n; cat /proc/self/status; echo end";
      const capabilities = ["CAP_NET_RAW"];
      const process = {
        ...processSpec(["/bin/busybox", "sh", "-c", script.replace("cat", "busybox cat")]),
        user: { uid: 1000, gid: 2000, additionalGids: [2000, 10] },
        cwd: "/tmp",
        env: ["PATH=/bin", "WHO=me"],
        rlimits: [{ type: "RLIMIT_NOFILE", soft: 55, hard: 55 }],
        capabilities: {
          bounding: capabilities,
          inheritable: capabilities,
          permitted: capabilities,
        },
      };
      // Go's shim wants both outputs or none.
      const stderr = outputFifo(room, "err").path;
      const io = { stdout: stdout.path, stderr, spec: processAny(process) };
      await tasks.exec(ctx, { containerId: "c1", execId: "e1", ...io });
      const exit = tasks.wait(ctx, { containerId: "c1", execId: "e1" });
      await tasks.start(ctx, { containerId: "c1", execId: "e1" });
      assert.equal((await exit).exitStatus, 0);
      await untilText(stdout, /end\n/);
      const text = stdout.text();
      assert.match(text, /^uid=1000 gid=2000 groups=10,2000\n\/tmp\nme\n55\n/);
      const sets = parseProcStatus(text);
      assert.deepEqual(capabilitiesOf(sets.bounding ?? 0n), capabilities);
      assert.equal(sets.effective, 0n);
      await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e1" });
      await removeContainer(daemon);
    },
    { needs: ["runc"] },
  );

  roomTest(
    `CVE-2022-23471: resizing an exec that could not start holds nothing, through ${what}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      await recordContainer(daemon, room, "c1", { args: shell("sleep 1000"), runtime: runtime() });
      await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
      await runContainer(daemon);
      const stdout = outputFifo(room, "out");
      for (const n of [1, 2, 3]) {
        const execId = `e${n}`;
        const spec = processAny({ ...processSpec(["/nonexistent"]), terminal: true });
        const io = { stdout: stdout.path, terminal: true, spec };
        await tasks.exec(ctx, { containerId: "c1", execId, ...io });
        await assert.rejects(tasks.start(ctx, { containerId: "c1", execId }), /no such file/i);
        await tasks
          .resizePty(ctx, { containerId: "c1", execId, width: 80, height: 24 })
          .catch((error: Error) => assert.match(error.message, /stopped|not running|deleted/));
        await tasks.deleteProcess(ctx, { containerId: "c1", execId });
      }
      await removeContainer(daemon);
    },
    { needs: ["runc"] },
  );

  roomTest(
    `kill all ends every process of a container, through ${what}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const args = shell("busybox sleep 1000 & busybox sleep 1001 & exec busybox sleep 1002");
      await recordContainer(daemon, room, "c1", { args, runtime: runtime() });
      await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
      await runContainer(daemon);
      const exit = tasks.wait(ctx, { containerId: "c1" });
      await tasks.kill(ctx, { containerId: "c1", signal: 15, all: true });
      // The first process of a pid namespace takes no signal that it has no handler for.
      await tasks.kill(ctx, { containerId: "c1", signal: 9, all: true });
      assert.equal((await exit).exitStatus, 137);
      await tasks.delete(ctx, { containerId: "c1" });
    },
    { needs: ["runc"] },
  );
}
