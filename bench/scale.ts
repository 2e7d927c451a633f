import type { Context } from "#pkg/context.ts";
import type { Bench } from "./bench.ts";
import { inParallel } from "./containers.ts";
import { type Noun, nouns } from "./scale-nouns.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";

export const scale: Bench = {
  name: "scale",
  about: "10,000 blobs, 5,000 images, 2,000 snapshots, 2,000 containers against an empty store",
  rounds: 5,
  async measure(stage) {
    const sides = await stage.startSides();
    await stage.alternate(sides, (side) => collect(stage, side, "empty"));
    for (const noun of nouns) {
      const count = stage.size(noun.count, 20);
      await stage.alternate(
        sides,
        (side) => makeSome(stage, side, { noun, from: 0, to: "empty" }),
        1,
      );
      await stage.alternate(sides, (side) => fill(stage, side, { noun, count }), 1);
      const full = { noun, from: count, to: `${count}` };
      await stage.alternate(sides, (side) => makeSome(stage, side, full), 1);
      await stage.alternate(sides, (side) => look(stage, side, noun));
    }
    await stage.alternate(sides, (side) => collect(stage, side, "full"));
  },
};

const sampleCount = 20;

function contextOf(side: Side, noun: Noun): Context {
  return side.ctx.withNamespace(`${side.ctx.namespace}-${noun.name}`);
}

/** One after the other, each timed. */
async function makeSome(
  stage: Stage,
  side: Side,
  { noun, from, to }: { noun: Noun; from: number; to: string },
): Promise<void> {
  for (let i = from; i < from + sampleCount; i++) {
    const make = () => noun.make(side, contextOf(side, noun), i);
    await stage.time(side, `${noun.name}: ${noun.verb} into ${to}`, make);
  }
}

async function fill(
  stage: Stage,
  side: Side,
  { noun, count }: { noun: Noun; count: number },
): Promise<void> {
  stage.say(`   ${side.kind}: making ${count} ${noun.name}`);
  const indexes = Array.from({ length: count - sampleCount }, (_, i) => sampleCount + i);
  const started = performance.now();
  await inParallel(16, indexes, (i) => noun.make(side, contextOf(side, noun), i));
  if (indexes.length === 0) return;
  const each = (performance.now() - started) / indexes.length;
  stage.record(side, `${noun.name}: ${noun.verb}, 16 at a time, each`, "ms", each);
}

/** Listing all, and finding one, by what each of those in the store costs. */
async function look(stage: Stage, side: Side, noun: Noun): Promise<void> {
  const ctx = contextOf(side, noun);
  const timed = async (filters: string[]): Promise<{ found: number; us: number }> => {
    const started = performance.now();
    const found = await noun.list(side, ctx, filters);
    return { found, us: (performance.now() - started) * 1000 };
  };
  const all = await timed([]);
  stage.record(side, `${noun.name}: list, each`, "us", all.us / all.found);
  const one = await timed([noun.filter(7)]);
  if (one.found !== 1) throw new Error(`${side.kind}: ${noun.filter(7)} found ${one.found}`);
  stage.record(side, `${noun.name}: filter for one, each`, "us", one.us / all.found);
}

/** Deleting a lease in sync waits for a collection, which has nothing to take here but must look at everything. */
async function collect(stage: Stage, side: Side, store: string): Promise<void> {
  const { lease } = await side.leases.create(side.ctx, { id: side.id("collect") });
  const id = lease?.id ?? "";
  await stage.time(side, `collection, ${store} store`, () =>
    side.leases.delete(side.ctx, { id, sync: true }),
  );
}
