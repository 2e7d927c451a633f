import { crashLoop } from "#test/crash/crash-loop.ts";
import { roomTest } from "#test/support/room.ts";

const seeds = Array.from({ length: 20 }, (_, i) => i + 1);

roomTest(
  "a daemon killed at any moment of pulls, imports, removals and collections loses nothing it told of",
  async (room, t) => {
    const lines = await crashLoop(room, seeds, { end: (daemon) => daemon.crash() });
    for (const line of lines) t.diagnostic(line);
  },
  { needs: ["overlayfs"], timeoutMs: 600_000 },
);
