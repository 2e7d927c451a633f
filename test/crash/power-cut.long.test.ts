import { powerCuts } from "#test/crash/power-cut.ts";
import { roomTest } from "#test/support/room.ts";

const seeds = Array.from({ length: Number(process.env["CRASH_SEEDS"] ?? 200) }, (_, i) => i + 2001);

roomTest(
  "hundreds of power cuts lose nothing that was told",
  async (room, t) => {
    for (const line of await powerCuts(room, seeds)) t.diagnostic(line);
  },
  { needs: ["overlayfs", "loop"], timeoutMs: 2 * 3_600_000 },
);
