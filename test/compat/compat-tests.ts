import assert from "node:assert/strict";
import { daemonKind } from "#test/support/daemon.ts";
import { roomTest } from "#test/support/room.ts";
import type { CompatCase } from "./compat-case.ts";
import { readGolden } from "./golden.ts";
import { transcribe } from "./transcript.ts";

/** A test for each case: what the daemon answers is what was recorded. */
export function compatTests(cases: readonly CompatCase[]): void {
  for (const compatCase of cases) {
    roomTest(
      compatCase.name,
      async (room) => {
        const actual = await transcribe(room, compatCase, daemonKind());
        assert.equal(actual, await readGolden(compatCase, daemonKind()));
      },
      { needs: ["runc", ...(compatCase.needs ?? [])] },
    );
  }
}
