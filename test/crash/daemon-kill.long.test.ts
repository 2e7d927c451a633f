import { crashLoop } from "#test/crash/crash-loop.ts";
import { roomTest } from "#test/support/room.ts";

const seeds = Array.from({ length: Number(process.env["CRASH_SEEDS"] ?? 200) }, (_, i) => i + 1001);

roomTest(
  "a daemon killed hundreds of times loses nothing it told of",
  async (room, t) => {
    const lines = await crashLoop(room, seeds, { end: (daemon) => daemon.crash() });
    for (const line of lines) t.diagnostic(line);
  },
  { needs: ["overlayfs"], timeoutMs: 2 * 3_600_000 },
);
