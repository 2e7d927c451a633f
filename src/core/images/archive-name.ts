import { imageNameAnnotation, refNameAnnotation } from "#core/images/annotations.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { parseReference } from "#pkg/reference.ts";

type Annotations = Descriptor["annotations"];

/**
 * The name of an entry of an archive's index, given the prefix that its reader wants; undefined for none.
 *
 * A full name must be one already: what the prefix would change is not taken. A bare tag is put behind the prefix.
 * Without `allowOther`, full names that do not begin with the prefix are not taken.
 */
export function archiveName(
  annotations: Annotations,
  prefix: string,
  { allowOther }: { readonly allowOther: boolean },
): string | undefined {
  const translate = (name: string): string | undefined => {
    if (prefix === "") return undefined;
    if (!/[/:@]/.test(name)) return `${prefix}:${name}`;
    return allowOther || isBelow(name, prefix) ? name : undefined;
  };
  const full = annotations[imageNameAnnotation];
  if (full !== undefined && full !== "") return translate(full) === full ? full : undefined;
  const tag = annotations[refNameAnnotation];
  return tag === undefined || tag === "" ? undefined : translate(tag);
}

/** `a/b` holds `a/b`, `a/b/c`, `a/b:1` and `a/b@..`, but not `a/bc`. */
function isBelow(name: string, prefix: string): boolean {
  if (!name.startsWith(prefix)) return false;
  return name.length === prefix.length || "/:@".includes(name.charAt(prefix.length));
}

/** The annotations that name an entry: the full name, and for OCI's readers the tag alone where there is one. */
export function nameAnnotations(name: string): Annotations {
  return { [imageNameAnnotation]: name, [refNameAnnotation]: tagOrName(name) };
}

function tagOrName(name: string): string {
  try {
    const { object } = parseReference(name);
    return object === "" || object.startsWith("@") ? name : object;
  } catch {
    return name; // an image's name need not be a reference
  }
}
