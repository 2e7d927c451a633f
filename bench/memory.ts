import { setTimeout as sleep } from "node:timers/promises";
import type { Bench } from "./bench.ts";
import { ContainerMaker, sleepers } from "./containers.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";
import { type Memory, memoryOf } from "./usage.ts";

/** Long enough for a collector to have run and for what start-up needed to be given back. */
const settleMs = 3_000;

export const memory: Bench = {
  name: "memory",
  about: "megabytes of the daemon idle, and for each of 10 and 50 sleeping containers",
  rounds: 3,
  async measure(stage) {
    const sides = await stage.startSides();
    await sleep(settleMs);
    const idle = new Map<Side, Memory>();
    for (const side of sides) idle.set(side, await sampled(stage, side, { label: "daemon idle" }));
    const makers = new Map<Side, ContainerMaker>();
    for (const side of sides) makers.set(side, await ContainerMaker.open(side));
    const pids = new Map<Side, number[]>();
    let made = 0;
    for (const count of [stage.size(10), stage.size(50, 2)]) {
      for (const side of sides) {
        const maker = makers.get(side);
        if (maker === undefined) continue;
        const ids = Array.from({ length: count - made }, (_, i) => side.id(`c${made + i}`));
        const started = await sleepers(stage, { side, maker, ids });
        pids.set(side, [...(pids.get(side) ?? []), ...started]);
      }
      made = count;
      await sleep(settleMs);
      for (const side of sides) {
        const base = idle.get(side);
        const own = pids.get(side) ?? [];
        const label = `each of ${count} containers`;
        await sampled(stage, side, { label, pids: own, ...(base !== undefined && { base }) });
      }
    }
  },
};

interface Sampling {
  readonly label: string;
  readonly pids?: readonly number[];
  /** What to take away before sharing the rest among the containers. */
  readonly base?: Memory;
}

async function sampled(
  stage: Stage,
  side: Side,
  { label, pids = [], base }: Sampling,
): Promise<Memory> {
  const share = base === undefined ? 1 : pids.length;
  let last: Memory = { pssMb: 0, privateMb: 0 };
  for (let round = 0; round < stage.rounds; round++) {
    last = await memoryOf(side, pids);
    stage.record(side, `${label}, PSS`, "MB", (last.pssMb - (base?.pssMb ?? 0)) / share);
    const own = (last.privateMb - (base?.privateMb ?? 0)) / share;
    stage.record(side, `${label}, private`, "MB", own);
    await sleep(200);
  }
  return last;
}
