import type { Bench } from "./bench.ts";
import { ContainerMaker, inParallel, sleepers } from "./containers.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";

export const exec: Bench = {
  name: "exec",
  about: "ctr tasks exec: one container, and twenty of them four at a time",
  rounds: 10,
  async measure(stage) {
    const sides = await stage.startSides();
    const containers = new Map<Side, string[]>();
    for (const side of sides) {
      const maker = await ContainerMaker.open(side);
      const ids = Array.from({ length: stage.size(20) }, (_, i) => side.id(`c${i}`));
      await sleepers(stage, { side, maker, ids });
      containers.set(side, ids);
    }
    await stage.alternate(sides, async (side, round) => {
      const id = containers.get(side)?.[0] ?? "";
      await stage.time(side, "one container", () => execTrue(side, id, `s${round}`));
    });
    await stage.alternate(
      sides,
      (side, round) => inMany(stage, side, { ids: containers.get(side) ?? [], round }),
      Math.ceil(stage.rounds / 2),
    );
  },
};

async function execTrue(side: Side, id: string, execId: string): Promise<void> {
  await side.ctr("tasks", "exec", "--exec-id", side.id(execId), id, "true");
}

/** Five in each container, so that a round has a hundred. */
async function inMany(
  stage: Stage,
  side: Side,
  { ids, round }: { ids: readonly string[]; round: number },
): Promise<void> {
  const each = stage.size(5);
  const queue = Array.from({ length: each }, () => ids).flat();
  const times: number[] = [];
  await inParallel(4, queue, async (id, i) => {
    const started = performance.now();
    await execTrue(side, id, `m${round}-${i}`);
    times.push(performance.now() - started);
  });
  stage.recordTail(side, `${ids.length} containers`, times);
}
