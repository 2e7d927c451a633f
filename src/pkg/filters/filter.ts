/**
 * Looks up a field of the object that a filter is asked about: its value, or undefined when it is
 * not present.
 *
 * A label `a.b/c` is asked for as `["labels", "a.b/c"]`, or unquoted as `["labels", "a", "b/c"]`;
 * see `labelField`.
 */
export type Adaptor = (fieldpath: readonly string[]) => string | undefined;

export type Filter = (adaptor: Adaptor) => boolean;

/** For adaptors: empty means not present, as upstream has it for plain fields. */
export function field(value: string): string | undefined {
  return value === "" ? undefined : value;
}

/**
 * For adaptors: the label that the rest of a field path names, `labels.<rest>`. An empty label is
 * present.
 */
export function labelField(
  labels: Readonly<Record<string, string>>,
  fieldpath: readonly string[],
): string | undefined {
  const key = fieldpath.slice(1).join(".");
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}
