import { splitHostPort } from "#core/remotes/localhost.ts";
import type { Reference } from "#pkg/reference.ts";

const sourcePrefix = "containerd.io/distribution.source.";

/** The label that says which repositories of a registry a blob came from or went to. */
export function distributionSourceLabel(reference: Pick<Reference, "hostname">): string {
  return sourcePrefix + splitHostPort(reference.hostname).host;
}

/** The label's value with one more repository: sorted, each once. */
export function addDistributionSource(value: string | undefined, repository: string): string {
  const known = (value ?? "").split(",").filter((one) => one !== "");
  return [...new Set([...known, repository])].toSorted().join(",");
}

/**
 * The repository to mount a blob from: of those that have it the one with the most leading path
 * components in common, the last among equals. Undefined where there is none but the target.
 */
export function mountCandidate(
  target: Reference,
  annotations: Readonly<Record<string, string>>,
): string | undefined {
  const wanted = target.repository.split("/");
  let best: string | undefined;
  let bestCommon = 0;
  for (const repository of (annotations[distributionSourceLabel(target)] ?? "").split(",")) {
    if (repository === "" || repository === target.repository) continue;
    const parts = repository.split("/");
    const differs = wanted.findIndex((part, i) => part !== parts[i]);
    const common = differs < 0 ? wanted.length : differs;
    if (common >= bestCommon) [best, bestCommon] = [repository, common];
  }
  return best;
}
