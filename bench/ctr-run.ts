import type { Bench } from "./bench.ts";
import { inParallel } from "./containers.ts";
import { removeNamespaceFolders } from "./leftovers.ts";
import { busybox, type Side } from "./side.ts";
import type { Stage } from "./stage.ts";
import { whyNot } from "#test/support/needs.ts";

export const ctrRun: Bench = {
  name: "run",
  about: "ctr run --rm IMAGE true: first in a namespace, warm, four at a time",
  rounds: 10,
  async measure(stage) {
    const sides = await stage.startSides();
    for (const side of sides) await side.importBusybox();
    await stage.alternate(sides, (side, round) => first(stage, side, round));
    await stage.alternate(sides, (side) => runTrue(side, side.id("warm-up")), 2);
    await stage.alternate(sides, (side, round) =>
      stage.time(side, "warm", () => runTrue(side, side.id(`w${round}`))),
    );
    if (stage.runtime === undefined) await withOneRuntime(stage, sides);
    await stage.alternate(sides, (side, round) => fourAtATime(stage, side, round));
  },
};

async function runTrue(side: Side, id: string, flags = side.runtimeFlags): Promise<void> {
  await side.ctr("run", "--rm", ...flags, busybox, id, "true");
}

/** Ours has to start a supervisor first; Go's starts a shim for every container anyway. */
async function first(stage: Stage, side: Side, round: number): Promise<void> {
  const namespace = `${side.id(stage.room.namespace)}-${round}`;
  await side.importBusybox(namespace);
  await stage.time(side, "first in a namespace", async () => {
    const flags = ["--rm", ...side.runtimeFlags];
    await side.ctr("--namespace", namespace, "run", ...flags, busybox, side.id("f"), "true");
  });
  await side.ctr("--namespace", namespace, "images", "rm", "--sync", busybox);
  await removeNamespaceFolders(namespace);
}

/** Tells what the daemons do from what their default runtimes do. */
async function withOneRuntime(stage: Stage, sides: readonly Side[]): Promise<void> {
  for (const runtime of ["runc", "crun"] as const) {
    if (whyNot([runtime]) !== undefined) continue;
    const flags = ["--runc-binary", runtime];
    await stage.alternate(sides, (side, round) =>
      stage.time(side, `warm, ${runtime} on both`, () =>
        runTrue(side, side.id(`${runtime}${round}`), flags),
      ),
    );
  }
}

async function fourAtATime(stage: Stage, side: Side, round: number): Promise<void> {
  const ids = Array.from({ length: 8 }, (_, i) => side.id(`p${round}-${i}`));
  const started = performance.now();
  await inParallel(4, ids, (id) => runTrue(side, id));
  stage.record(side, "four at a time, each", "ms", (performance.now() - started) / ids.length);
}
