import { moveWithinLimit } from "#test/integration/transfer/memory-limit.ts";
import { roomTest } from "#test/support/room.ts";

roomTest(
  "a layer of 4 GiB is pulled and imported by a daemon with 256 MiB of memory",
  async (room, t) => {
    t.diagnostic(await moveWithinLimit(room, { noiseBytes: 384 << 20, bytes: 4 * 2 ** 30 }));
  },
  { timeoutMs: 3_600_000 },
);
