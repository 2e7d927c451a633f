import { rm } from "node:fs/promises";
import { join } from "node:path";
import { crashLoop } from "#test/crash/crash-loop.ts";
import { PowerCutDisks } from "#test/crash/power-cut-disks.ts";
import type { Room } from "#test/support/room.ts";

const stores = ["content.v1.content", "metadata.v1.bolt", "snapshotter.v1.overlayfs"];

/** Power cuts, a seed each, with blobs, records and layers on disks of their own. */
export async function powerCuts(room: Room, seeds: readonly number[]): Promise<readonly string[]> {
  const root = join(room.dir, "daemon/root");
  const dirs = stores.map((store) => join(root, `io.containerd.${store}`));
  const disks = await PowerCutDisks.mount(room, dirs);
  return crashLoop(room, seeds, {
    async end(daemon) {
      await disks.cut(daemon.pid, () => daemon.crash());
      // What was in memory goes as well, and the kernel that starts is another one.
      await rm(daemon.state, { recursive: true });
      await rm(join(root, "io.containerd.content.v1.content/boot-id"), { force: true });
    },
  });
}
