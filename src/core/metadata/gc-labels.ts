import { tryParseDuration } from "#pkg/duration.ts";
import type { Labels } from "#pkg/label.ts";
import { tryParseRfc3339 } from "#pkg/time.ts";

export const expireLabel = "containerd.io/gc.expire";
export const flatLabel = "containerd.io/gc.flat";
const rootPrefix = "containerd.io/gc.root";
const refPrefix = "containerd.io/gc.ref.";
const backRefPrefix = "containerd.io/gc.bref.";
const conditionPrefix = "containerd.io/gc.cond.snapshot";
const usedPrefix = "containerd.io/gc.cond.value-usedat";

/** An object by kind and key, in the namespace of the object whose label names it. */
export interface NodeName {
  readonly kind: string;
  readonly key: string;
}

export interface Condition {
  readonly snapshot: NodeName;
  readonly op: "<" | ">";
  readonly ageMs: number;
}

/** What an object's labels say to the collector. */
export interface GcLinks {
  /** Kept as long as the object is. */
  readonly refs: readonly NodeName[];
  /** As long as one of these is kept, so is the object. */
  readonly backRefs: readonly NodeName[];
  readonly root: boolean;
  readonly conditions: readonly Condition[];
  readonly usedMs: readonly number[];
}

/**
 * Reads upstream's labels: `gc.ref.content`, `gc.ref.image` and `gc.ref.<collector>`, each with an optional name after
 * `.` or `/`; `gc.ref.snapshot.<snapshotter>` with an optional name after `/`; the same as `gc.bref.`, where
 * `container` is known too; `gc.root`; `gc.cond.snapshot.<snapshotter>` and the time of use it is compared with.
 */
export function gcLinks(labels: Labels): GcLinks {
  const refs: NodeName[] = [];
  const backRefs: NodeName[] = [];
  const conditions: Condition[] = [];
  const usedMs: number[] = [];
  let root = false;
  for (const [label, value] of Object.entries(labels)) {
    if (!label.startsWith("containerd.io/gc.")) continue;
    if (label.startsWith(refPrefix)) refs.push(named(label.slice(refPrefix.length), value));
    else if (label.startsWith(backRefPrefix)) {
      backRefs.push(named(label.slice(backRefPrefix.length), value));
    } else if (label.startsWith(rootPrefix)) root = true;
    else if (label.startsWith(conditionPrefix)) {
      conditions.push(...parseConditions(label.slice(conditionPrefix.length), value));
    } else if (label.startsWith(usedPrefix)) {
      const used = tryParseRfc3339(value);
      if (used !== undefined) usedMs.push(Number(used / 1_000_000n));
    }
  }
  return { refs, backRefs, root, conditions, usedMs };
}

/** When an image or a lease may be collected; undefined for never, also where the label is no time, as upstream. */
export function expiresMs(labels: Labels): number | undefined {
  const value = labels[expireLabel];
  const time = value === undefined ? undefined : tryParseRfc3339(value);
  return time === undefined ? undefined : Number(time / 1_000_000n);
}

function named(rest: string, key: string): NodeName {
  if (rest.startsWith("snapshot.")) {
    return { kind: `snapshot/${upTo(rest.slice("snapshot.".length), "/")}`, key };
  }
  return { kind: rest.split(/[./]/, 1)[0] ?? "", key };
}

/** `usedat<24h,usedat>1s|key`: conditions of which one is enough, and the snapshot they are about. */
function parseConditions(rest: string, value: string): Condition[] {
  const bar = value.indexOf("|");
  if (bar < 0) return [];
  const snapshotter = upTo(rest.replace(/^[./]+/, ""), "/");
  const snapshot = { kind: `snapshot/${snapshotter}`, key: value.slice(bar + 1) };
  return value
    .slice(0, bar)
    .split(",")
    .flatMap((text): Condition[] => {
      const match = /^usedat([<>])([^=].*)$/.exec(text);
      const ageMs = tryParseDuration(match?.[2] ?? "");
      if (!match || ageMs === undefined) return [];
      return [{ snapshot, op: match[1] === "<" ? "<" : ">", ageMs }];
    });
}

function upTo(text: string, separator: string): string {
  const at = text.indexOf(separator);
  return at < 0 ? text : text.slice(0, at);
}
