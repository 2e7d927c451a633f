import assert from "node:assert/strict";
import { linux } from "#pkg/sys/linux.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import {
  inputFifo,
  outputFifo,
  type OutputFifo,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
} from "./harness.ts";

const SIGKILL = 9;
const running = 2;
const count = Number(process.env["CONTAINERS"] ?? 100);
const deaths = Number(process.env["DEATHS"] ?? 10);
/** One that has served for a minute is replaced at once, and the take-over alone is measured. */
const pauseMs = 61_000;

/**
 * Many containers of one supervisor, half of them with terminals, which dies again and again: every
 * line that is said comes back, whenever it is said. Tells how long a take-over takes.
 */
roomTest(
  `${count} containers go on over ${deaths} deaths of their supervisor`,
  async (room, t) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    const echo = shell('while read -r line; do echo "got $line"; done');
    const talks: { out: OutputFifo; say: (text: string) => void }[] = [];
    for (let n = 0; n < count; n++) {
      const id = `c${n}`;
      const terminal = n % 2 === 0;
      await recordContainer(daemon, room, id, { args: echo, terminal });
      const out = outputFifo(room, `${id}-out`);
      const stdin = inputFifo(room, `${id}-in`);
      await tasks.create(ctx, {
        containerId: id,
        rootfs: rootfsMounts(room),
        stdin: stdin.path,
        stdout: out.path,
        terminal,
      });
      talks.push({ out, say: stdin.open().say });
      await tasks.start(ctx, { containerId: id });
    }
    const supervisor = async (): Promise<number> => {
      const [record] = daemon.manager.records.list();
      assert.ok(record);
      return (await record.link.ask(ctx, (shim) => shim.connect(ctx, ""))).shimPid;
    };
    for (let death = 0; death < deaths; death++) {
      if (death > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
      const first = await supervisor();
      const began = performance.now();
      linux.kill(first, SIGKILL);
      for (const { say } of talks) say(`meanwhile ${death}\n`);
      await until("a successor", async () => (await supervisor()) !== first);
      const listed = (await tasks.list(ctx, {})).tasks;
      const tookMs = Math.round(performance.now() - began);
      assert.equal(listed.filter(({ status }) => status === running).length, count);
      for (const { say } of talks) say(`after ${death}\n`);
      await until("all have answered", () =>
        talks.every(({ out }) => out.text().includes(`got after ${death}`)),
      );
      t.diagnostic(`death ${death + 1}: ${count} containers taken over and listed in ${tookMs} ms`);
    }
    for (const { out } of talks) {
      const answers = out
        .text()
        .match(/^got .*$/gm)
        ?.map((line) => line.trim());
      const said = Array.from({ length: deaths }, (_, n) => [
        `got meanwhile ${n}`,
        `got after ${n}`,
      ]);
      assert.deepEqual(answers, said.flat());
    }
    for (let n = 0; n < count; n++) {
      const id = `c${n}`;
      const exit = tasks.wait(ctx, { containerId: id });
      await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
      assert.equal((await exit).exitStatus, 137);
      await tasks.delete(ctx, { containerId: id });
    }
  },
  { needs: ["runc"], timeoutMs: 1_800_000 },
);
