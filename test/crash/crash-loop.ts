import assert from "node:assert/strict";
import { crashImage, servedImages, unpackConfig } from "#test/crash/crash-images.ts";
import { checkStarted } from "#test/crash/daemon-check.ts";
import { type Fate, type Told, workload } from "#test/crash/daemon-workload.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import type { Room } from "#test/support/room.ts";

const imageCount = 6;

/** What a crash is: it ends the daemon, and leaves what the next start finds. */
export interface Crash {
  readonly end: (daemon: Daemon) => Promise<void>;
}

/**
 * Crash after crash on one root, a seed each: the next start says of no error, and everything that was told holds.
 *
 * Returns what happened, a line for each seed.
 */
export async function crashLoop(
  room: Room,
  seeds: readonly number[],
  crash: Crash,
): Promise<readonly string[]> {
  const registry = room.resources.use(await startRegistry(servedImages(imageCount)));
  const images = Array.from({ length: imageCount }, (_, i) => crashImage(i, registry.host));
  const told: Told = { images: new Map(), containers: new Map() };
  const daemon = await startDaemon(room, { kind: "ours", config: unpackConfig });
  const lines: string[] = [];
  for (const seed of seeds) {
    try {
      await workload({ room, daemon, images, told, seed, end: () => crash.end(daemon) });
      lines.push(
        `seed ${seed}: images ${counted(told.images)}; containers ${counted(told.containers)}`,
      );
      const logged = (await daemon.log()).length;
      await daemon.start();
      await checkStarted({ room, daemon, images, told });
      const log = (await daemon.log()).slice(logged).split("\n");
      assert.deepEqual(
        log.filter((line) => /level=(error|fatal|panic)/.test(line)),
        [],
      );
    } catch (error) {
      throw new Error(`seed ${seed} of ${seeds.join(" ")}`, { cause: error });
    }
  }
  return lines;
}

function counted(told: ReadonlyMap<string, Fate>): string {
  const fates = [...told.values()];
  const count = (fate: Fate): string => `${fates.filter((one) => one === fate).length} ${fate}`;
  return [count("here"), count("gone"), count("unsure")].join(", ");
}
