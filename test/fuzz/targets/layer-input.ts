import fc from "fast-check";
import { type LayerEntry, layerOf } from "#test/integration/diff/layer.ts";

/** Stands for the folder outside of the root that a layer must not reach. */
export const outside = "$OUTSIDE";

const part = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom("a", "b", "c", "d") },
  { weight: 1, arbitrary: fc.constantFrom("..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.", "\xff") },
);
const path = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const hostilePath = fc.oneof(
  { weight: 8, arbitrary: path },
  { weight: 1, arbitrary: path.map((p) => `../outside/${p}`) },
  { weight: 1, arbitrary: path.map((p) => `${outside}/${p}`) },
  { weight: 1, arbitrary: fc.constantFrom("..", "/", outside, "../outside/secret", "a/../../x") },
);

/** An entry as plain values, so that it can be kept. */
export const layerEntry = fc.record({
  type: fc.constantFrom(
    "file",
    "file",
    "directory",
    "symlink",
    "link",
    "fifo",
    "character" as const,
  ),
  name: hostilePath,
  linkName: hostilePath,
  text: fc.string({ maxLength: 30 }),
  mode: fc.constantFrom(0o644, 0o755, 0o4755, 0, 0o1777),
  uid: fc.constantFrom(0, 1000, 4_000_000_000),
});
export type LayerInput = typeof layerEntry extends fc.Arbitrary<infer T> ? T : never;

/** The bytes of a layer with these entries; what stands for the outside is replaced by it. */
export function layerBytes(entries: readonly LayerInput[], outsideDir: string): Buffer {
  return layerOf(
    ...entries.map(({ type, name, linkName, text, mode, uid }): LayerEntry => {
      const real = (path: string): string => path.replaceAll(outside, outsideDir);
      const entry = { name: real(name), mode, uid, gid: 0, mtimeNs: 1_000_000_000_000_000_000n };
      if (type === "file") return { type, ...entry, content: text };
      if (type === "character") return { type, ...entry, device: { major: 1, minor: 3 } };
      if (type === "symlink" || type === "link")
        return { type, ...entry, linkName: real(linkName) };
      return { type, ...entry };
    }),
  );
}
