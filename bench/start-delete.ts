import type { Bench } from "./bench.ts";
import { ContainerMaker } from "./containers.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";

export const startDelete: Bench = {
  name: "start-delete",
  about: "the life of a container through RPC, without ctr, step by step",
  rounds: 15,
  async measure(stage) {
    const sides = await stage.startSides();
    const makers = new Map<Side, ContainerMaker>();
    for (const side of sides) makers.set(side, await ContainerMaker.open(side));
    await stage.alternate(sides, async (side, round) => {
      const maker = makers.get(side);
      if (maker !== undefined) await live(stage, side, { maker, id: side.id(`c${round}`) });
    });
  },
};

async function live(
  stage: Stage,
  side: Side,
  { maker, id }: { maker: ContainerMaker; id: string },
): Promise<void> {
  const { ctx, tasks } = side;
  const task = { containerId: id };
  await stage.time(side, "total", async () => {
    const create = () => maker.create(id, ["true"]);
    const rootfs = await stage.time(side, "snapshot and container", create);
    await stage.time(side, "Tasks.Create", () => tasks.create(ctx, { ...task, rootfs }));
    const exit = tasks.wait(ctx, task);
    await stage.time(side, "Tasks.Start", () => tasks.start(ctx, task));
    await stage.time(side, "until Wait answers", () => exit);
    await stage.time(side, "Tasks.Delete", () => tasks.delete(ctx, task));
    await stage.time(side, "container and snapshot removed", () => maker.remove(id));
  });
}
