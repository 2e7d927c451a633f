import { roomTest } from "#test/support/room.ts";
import { moveWithinLimit } from "./memory-limit.ts";

roomTest(
  "a layer of 512 MiB is pulled and imported by a daemon with 256 MiB of memory",
  async (room, t) => {
    t.diagnostic(await moveWithinLimit(room, { noiseBytes: 96 << 20, bytes: 512 << 20 }));
  },
  { timeoutMs: 600_000 },
);
