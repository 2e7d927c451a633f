import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "#pkg/errors.ts";
import { additionalGids, resolveGroups, resolveUser } from "#pkg/oci/user.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const name = fc.constantFrom("a", "b", "root", "1", "0");
const field = fc.oneof(name, fc.bigInt().map(String), fc.string({ maxLength: 4 }));
const file = fc
  .array(fc.array(field, { maxLength: 6 }))
  .map((lines) => lines.map((parts) => parts.join(":")).join("\n"));

/** Whatever an image has in its files, ids are ones that no runtime wraps. */
export const target = fuzzTarget({
  name: "ResolveUser",
  inputs: fc.record({
    passwd: file,
    group: file,
    user: fc.oneof(
      field,
      fc.tuple(field, field).map((parts) => parts.join(":")),
    ),
  }),
  async check({ passwd, group, user }) {
    const root = {
      read: async (path: string) => (path === "etc/passwd" ? passwd : group),
    };
    const ids = async (): Promise<number[]> => {
      const { uid, gid } = await resolveUser(root, user);
      return [uid, gid];
    };
    for (const find of [ids, () => additionalGids(root, user)]) {
      for (const id of await orNothing(find)) assert.ok(id >= 0 && id < 2 ** 31, String(id));
    }
    for (const gid of await orNothing(() => resolveGroups(root, [user]))) {
      assert.ok(gid >= 0 && gid < 2 ** 32, String(gid));
    }
  },
});

async function orNothing(find: () => Promise<number[]>): Promise<number[]> {
  try {
    return await find();
  } catch (error) {
    if (hasCode(error, "invalid-argument") || hasCode(error, "not-found")) return [];
    throw error;
  }
}
