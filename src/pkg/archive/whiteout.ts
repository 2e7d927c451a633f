import { type ByteString, invalidArchive, shown } from "#pkg/archive/tar-entry.ts";

export const whiteoutPrefix = ".wh.";
export const opaqueMarker = ".wh..wh..opq";
const metaPrefix = ".wh..wh.";

/** What a name says of layers below. */
export type Whiteout =
  /** This name is removed. */
  | { readonly kind: "remove"; readonly name: ByteString }
  /** All of the directory is hidden. */
  | { readonly kind: "opaque" }
  /** AUFS's own files, which mean nothing here. */
  | { readonly kind: "ignored" };

/**
 * Undefined for a plain name. Throws `invalid-argument` for one that would remove something else
 * than a sibling.
 */
export function parseWhiteout(base: ByteString): Whiteout | undefined {
  if (!base.startsWith(whiteoutPrefix)) return undefined;
  if (base === opaqueMarker) return { kind: "opaque" };
  if (base.startsWith(metaPrefix)) return { kind: "ignored" };
  const name = base.slice(whiteoutPrefix.length);
  if (name === "" || name === "." || name === "..") {
    throw invalidArchive(`invalid whiteout name: ${shown(base)}`);
  }
  return { kind: "remove", name };
}
