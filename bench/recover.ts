import { until } from "#test/support/processes.ts";
import { Status } from "#api/types/task/task_pb.ts";
import type { Bench } from "./bench.ts";
import { ContainerMaker, sleepers } from "./containers.ts";
import type { Side } from "./side.ts";

export const recover: Bench = {
  name: "recover",
  about: "the daemon killed while 50 containers run: until it lists them rightly again",
  rounds: 5,
  async measure(stage) {
    const count = stage.large ? 100 : stage.size(50);
    const sides = await stage.startSides();
    const pids = new Map<Side, readonly number[]>();
    for (const side of sides) {
      const maker = await ContainerMaker.open(side);
      const ids = Array.from({ length: count }, (_, i) => side.id(`c${i}`));
      pids.set(side, await sleepers(stage, { side, maker, ids }));
    }
    await stage.alternate(sides, async (side) => {
      const expected = pids.get(side) ?? [];
      await side.daemon.crash();
      const started = performance.now();
      await side.daemon.start();
      stage.record(side, "start until it accepts calls", "ms", performance.now() - started);
      await until(`${side.kind} lists ${count} containers`, () => isRight(side, expected), {
        timeoutMs: 120_000,
        everyMs: 5,
      });
      const label = `start until ${count} are listed`;
      stage.record(side, label, "ms", performance.now() - started);
    });
  },
};

/** All running, under the pids they had. */
async function isRight(side: Side, pids: readonly number[]): Promise<boolean> {
  const { tasks } = await side.tasks.list(side.ctx, {});
  const running = tasks.filter((task) => task.status === Status.RUNNING).map(({ pid }) => pid);
  return new Set(running).symmetricDifference(new Set(pids)).size === 0;
}
