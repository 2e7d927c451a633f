import { invalidArgument } from "#pkg/errors.ts";

/** Ids of a container and what they are on the host, as in `uidmap=0:100000:65536`. */
export interface IdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

/** The last 32-bit id means "none". */
const idsMax = 0xffff_ffff;
/** The kernel takes no more. */
const mappingsMax = 340;
const form = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/;

/**
 * Parses `container:host:size`, several joined by commas. Throws `invalid-argument` for anything
 * else, for ids that do not exist and for more than the kernel takes.
 */
export function parseIdMappings(text: string): readonly IdMapping[] {
  const mappings = text.split(",", mappingsMax + 1).map(parseOne);
  if (mappings.length <= mappingsMax) return mappings;
  throw invalidArgument(`id mapping ${quoted(text)}: more than ${mappingsMax} ranges`);
}

function parseOne(text: string): IdMapping {
  const [, containerId, hostId, size] = (form.exec(text) ?? []).map(Number);
  if (containerId === undefined || hostId === undefined || size === undefined) {
    throw invalidArgument(`id mapping ${quoted(text)}: expected container-id:host-id:size`);
  }
  if (size === 0 || containerId + size > idsMax || hostId + size > idsMax) {
    throw invalidArgument(`id mapping ${quoted(text)}: no such range of ids`);
  }
  return { containerId, hostId, size };
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

/** The id on the host; undefined where none is mapped. */
export function toHostId(mappings: readonly IdMapping[], id: number): number | undefined {
  for (const { containerId, hostId, size } of mappings) {
    if (id >= containerId && id < containerId + size) return hostId + id - containerId;
  }
  return undefined;
}

/** Lines for `/proc/PID/uid_map`. */
export function idMapLines(mappings: readonly IdMapping[]): string {
  return mappings.map((m) => `${m.containerId} ${m.hostId} ${m.size}\n`).join("");
}

/** Every id is what it is. */
export const identityMapping: readonly IdMapping[] = [{ containerId: 0, hostId: 0, size: idsMax }];
