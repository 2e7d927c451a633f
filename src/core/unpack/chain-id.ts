import { type Digest, digestOf } from "#pkg/digest.ts";

/**
 * The names of the snapshots that layers make, one on the other: the first is its own diff id, each further one the
 * digest of `PARENT DIFF`. Equal chains have equal names, whatever image they came with.
 */
export function chainIds(diffIds: readonly Digest[]): readonly Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : digestOf(`${parent} ${diffId}`));
  }
  return chain;
}
