import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run, runOk } from "#test/support/command.ts";
import { buildImage, ociArchive } from "#test/support/images.ts";
import type { Bench } from "./bench.ts";
import { realisticLayer } from "./realistic-layer.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";

const reference = "docker.io/library/large:bench";
const layerCount = 10;
const layerBytes = 15 << 20;

export const importImage: Bench = {
  name: "import",
  about: "ctr images import with unpacking: ten layers of 15 MB, on disk and on tmpfs",
  rounds: 5,
  async measure(stage) {
    const archive = join(stage.room.dir, "image.tar");
    stage.say("   making the image");
    const layers = Array.from({ length: layerCount }, (_, i) =>
      realisticLayer({ seed: i + 1, bytes: stage.size(layerBytes) }),
    );
    await writeFile(archive, ociArchive(buildImage({ layers }), reference));
    const onDisk = await stage.startSides();
    await stage.alternate(onDisk, (side) => importAndRemove(stage, side, { archive, on: "disk" }));
    const dir = join(stage.room.dir, "m");
    await mkdir(dir);
    await runOk(["mount", "-t", "tmpfs", "tmpfs", dir]);
    // Lazily: the daemons in it end first, and what they still write goes with it.
    stage.room.resources.defer(async () => {
      await run(["umount", "-l", dir]);
    });
    const inMemory = await stage.startSides({ dir });
    await stage.alternate(inMemory, (side) =>
      importAndRemove(stage, side, { archive, on: "tmpfs" }),
    );
  },
};

async function importAndRemove(
  stage: Stage,
  side: Side,
  { archive, on }: { archive: string; on: string },
): Promise<void> {
  // What others have left to write is not this side's.
  await runOk(["sync"], { timeoutMs: 600_000 });
  await stage.time(side, `import on ${on}`, () => side.ctr("images", "import", archive));
  await stage.time(side, `removal with collection on ${on}`, () =>
    side.ctr("images", "rm", "--sync", reference),
  );
  const left = await side.ctr("content", "ls", "--quiet");
  if (left.trim() !== "") throw new Error(`${side.kind}: the collection left content:\n${left}`);
}
