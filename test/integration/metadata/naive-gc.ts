/** An object of a random graph; names are unique per kind within a namespace. */
export interface GraphObject {
  readonly ns: string;
  readonly kind: "content" | "image" | "snapshot" | "container" | "lease";
  readonly name: string;
  /** Names of objects of the same namespace, as `kind/name`; some are not there. */
  readonly refs: readonly string[];
  readonly backRefs: readonly string[];
  readonly root: boolean;
  /** Of images and leases. */
  readonly expired: boolean;
  /** Of leases. */
  readonly flat: boolean;
  /** The target of an image, the snapshot of a container, the parent of a snapshot, what a lease holds. */
  readonly holds: readonly string[];
}

/**
 * Which objects a collection leaves, said as plainly as possible: start from the roots and follow every reference
 * until nothing new is found.
 */
export function survivors(objects: readonly GraphObject[]): Set<string> {
  const byId = new Map(objects.map((object) => [idOf(object), object]));
  const kept = new Set<string>();
  const flat = new Set<string>();
  const keep = (id: string): void => {
    if (kept.has(id)) return;
    kept.add(id);
    const object = byId.get(id);
    if (object) {
      for (const ref of [...object.refs, ...object.holds]) keep(`${object.ns}/${ref}`);
    }
    for (const other of objects) {
      const ns = id.slice(0, id.indexOf("/"));
      if (other.ns === ns && other.backRefs.some((parent) => `${ns}/${parent}` === id)) {
        keep(idOf(other));
      }
    }
  };
  const keepFlat = (id: string): void => {
    if (flat.has(id)) return;
    flat.add(id);
    const object = byId.get(id);
    if (object?.kind === "snapshot" || object?.kind === "image") {
      for (const held of object.holds) keepFlat(`${object.ns}/${held}`);
    }
  };
  for (const object of objects) {
    const { ns, kind, root, expired } = object;
    if (kind === "lease" && !expired) {
      kept.add(idOf(object));
      for (const held of object.holds) (object.flat ? keepFlat : keep)(`${ns}/${held}`);
    } else if (kind === "container" || (kind === "image" && !expired)) keep(idOf(object));
    else if ((kind === "content" || kind === "snapshot") && root) keep(idOf(object));
  }
  return new Set(objects.map(idOf).filter((id) => kept.has(id) || flat.has(id)));
}

export function idOf({ ns, kind, name }: Pick<GraphObject, "ns" | "kind" | "name">): string {
  return `${ns}/${kind}/${name}`;
}
