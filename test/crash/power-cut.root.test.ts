import { snapshotterNames } from "#test/crash/crash-images.ts";
import { cutBehindContainer, powerCuts } from "#test/crash/power-cut.ts";
import { roomTest } from "#test/support/room.ts";

const seeds = Array.from({ length: 6 }, (_, i) => i + 101);

roomTest(
  "a power cut at any moment of pulls, imports, removals and collections loses nothing that was told",
  async (room, t) => {
    for (const line of await powerCuts(room, seeds)) t.diagnostic(line);
  },
  { needs: ["overlayfs", "loop"], timeoutMs: 600_000 },
);

for (const name of snapshotterNames) {
  roomTest(
    `a power cut right behind the making of a container takes nothing of its image (${name})`,
    (room) => cutBehindContainer(room, name),
    { needs: ["overlayfs", "loop"] },
  );
}
