import { identityMapping, parseIdMappings, toHostId } from "#core/mount/id-mapping.ts";
import { invalidArgument } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";

const uidMapKey = "containerd.io/snapshot/uidmapping";
const gidMapKey = "containerd.io/snapshot/gidmapping";

/** Mount options that show a snapshot's files as its labels map them; none without such labels. */
export function mappingOptions(labels: Labels): string[] {
  const [uidMap, gidMap] = [labels[uidMapKey], labels[gidMapKey]];
  return [
    ...(uidMap === undefined ? [] : [`uidmap=${uidMap}`]),
    ...(gidMap === undefined ? [] : [`gidmap=${gidMap}`]),
  ];
}

/**
 * Who is root of a container with the mappings of these labels; undefined without any. Throws
 * `invalid-argument` for one that does not parse or leaves root out.
 */
export function rootOwner(labels: Labels): { uid: number; gid: number } | undefined {
  const [uidMap, gidMap] = [labels[uidMapKey], labels[gidMapKey]];
  if (uidMap === undefined && gidMap === undefined) return undefined;
  return { uid: rootId(uidMapKey, uidMap), gid: rootId(gidMapKey, gidMap) };
}

function rootId(label: string, map: string | undefined): number {
  const mappings = map === undefined ? identityMapping : parseIdMappings(map);
  const id = toHostId(mappings, 0);
  if (id !== undefined) return id;
  throw invalidArgument(`label ${label}: container ID 0 cannot be mapped to a host ID`);
}
