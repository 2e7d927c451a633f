import type { PodIdMapping, UserNamespaceOptions } from "#cri/pod-sandbox-config.ts";
import { invalidArgument } from "#pkg/errors.ts";
import type { IdMapping } from "#pkg/oci/linux-spec.ts";

/** Of a pod with a user namespace of its own. */
export interface PodMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

/** The last 32-bit id means "none". */
const idsMax = 0xffff_ffff;

/**
 * The mappings of a pod's user namespace; undefined where it has the host's. Throws
 * `invalid-argument` for what is no range of ids, and for a mode without what it needs.
 */
export function podMappings(options: UserNamespaceOptions | undefined): PodMappings | undefined {
  if (!options) return undefined;
  const { mode } = options;
  const uids = idMappings(options.uids, "UID");
  const gids = idMappings(options.gids, "GID");
  const counts = `${uids.length} UID mappings and ${gids.length} GID mappings`;
  switch (mode) {
    case "node":
      if (uids.length + gids.length === 0) return undefined;
      throw refused(`can't use user namespace mode "NODE" with mappings. Got ${counts}`);
    case "pod":
      if (uids.length > 0 && gids.length > 0) return { uids, gids };
      throw refused('can\'t use user namespace mode "POD" without UID and GID mappings');
    default:
      throw refused(`unsupported user namespace mode: "${mode.toUpperCase()}"`);
  }
}

function idMappings(mappings: readonly PodIdMapping[], kind: "UID" | "GID"): readonly IdMapping[] {
  if (mappings.length > 1) {
    // A snapshot's owners can be shifted by one range.
    throw refused(
      `${kind} mapping: only one mapping line supported, got ${mappings.length} mapping lines`,
    );
  }
  return mappings.map(({ containerId, hostId, length }) => {
    if (length < 1) throw refused(`${kind} mapping: invalid mapping length: ${length}`);
    if (containerId + length > idsMax || hostId + length > idsMax) {
      const range = `${containerId}:${hostId}:${length}`;
      throw refused(`${kind} mapping: no such range of ids: ${range}`);
    }
    return { containerID: containerId, hostID: hostId, size: length };
  });
}

function refused(why: string): Error {
  return invalidArgument(`user namespace configuration: ${why}`);
}

/** The labels by which a snapshotter gives a tree the owners that the namespace sees as its own. */
export function remapLabels({ uids, gids }: PodMappings): Readonly<Record<string, string>> {
  const [uid, gid] = [uids[0], gids[0]];
  if (!uid || !gid) return {};
  return {
    "containerd.io/snapshot/uidmapping": `0:${uid.hostID}:${uid.size}`,
    "containerd.io/snapshot/gidmapping": `0:${gid.hostID}:${gid.size}`,
  };
}
