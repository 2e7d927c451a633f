import { createHash } from "node:crypto";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import { type ProcessOptions, processOptionsOf } from "#core/runtime/runc-options-convert.ts";
import type { Any } from "#pkg/any.ts";
import { isIdentifier } from "#pkg/identifier.ts";

/** Which containers share a process: those of a namespace, of a pod, or none. */
export const groupings = ["namespace", "pod", "container"] as const;
export type Grouping = (typeof groupings)[number];

/** The containers that share a process, and how that process differs from others. */
export interface SupervisorGroup {
  readonly namespace: string;
  readonly id: string;
  /** The cgroup that the process joins, in every hierarchy that has it; empty for the daemon's. */
  readonly cgroup: string;
}

export interface GroupSettings {
  readonly grouping: Grouping;
  /** Each process gets a core-scheduling cookie (`SCHED_CORE` in the environment of shims). */
  readonly hasSchedCore: boolean;
  /** The daemon's own, which processes derive theirs from. */
  readonly oomScore: number;
}

export interface GroupRequest {
  readonly namespace: string;
  readonly id: string;
  readonly sandboxId: string;
  readonly spec: Any | undefined;
  readonly options: Any | undefined;
}

/** By these the containers of a pod are known where no sandbox is named; the first counts. */
const podAnnotations = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"] as const;

/**
 * The group of a new container.
 *
 * What can only be true of a whole process (its cgroup, its oom score, the runtime it starts) is
 * part of the id, so that containers which ask for different things never share one. A
 * core-scheduling cookie belongs to a process too: it would be the same for all of a namespace, and
 * keep nothing apart, so pods get a process each.
 */
export function groupFor(request: GroupRequest, settings: GroupSettings): SupervisorGroup {
  const { namespace } = request;
  const options = processOptionsOf(request.options);
  const { grouping, hasSchedCore } = settings;
  const shared = grouping === "namespace" && hasSchedCore ? "pod" : grouping;
  const base = { namespace, container: request.id, pod: podOf(request) }[shared];
  const special = specialOf(options, settings);
  const id = special === "" ? base : `${base}.${digestOf(special)}`;
  // Part of a file's name and of a command line; an annotation may be anything.
  return { namespace, id: isIdentifier(id) ? id : digestOf(id), cgroup: options.shimCgroup };
}

/** In the metadata of `bootstrap.json`: they tell a bundle of ours from a third-party shim's. */
const groupKey = "io.containerd-ts.supervisor.group";
const cgroupKey = "io.containerd-ts.supervisor.cgroup";

/** The bootstrap as a bundle of the group keeps it. */
export function withGroup(bootstrap: BootstrapResult, group: SupervisorGroup): BootstrapResult {
  const own = { [groupKey]: group.id, ...(group.cgroup !== "" && { [cgroupKey]: group.cgroup }) };
  return { ...bootstrap, metadata: { ...bootstrap.metadata, ...own } };
}

/** Undefined for a bundle of another shim's. */
export function groupOf(
  { metadata }: BootstrapResult,
  namespace: string,
): SupervisorGroup | undefined {
  const id = metadata[groupKey];
  return id === undefined ? undefined : { namespace, id, cgroup: metadata[cgroupKey] ?? "" };
}

function specialOf(
  { shimCgroup, binaryName }: ProcessOptions,
  { hasSchedCore, oomScore }: GroupSettings,
): string {
  if (shimCgroup === "" && binaryName === "" && !hasSchedCore && oomScore === 0) return "";
  return JSON.stringify({ shimCgroup, binaryName, hasSchedCore, oomScore });
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

function podOf({ id, sandboxId, spec }: GroupRequest): string {
  if (sandboxId !== "") return sandboxId;
  const annotations = annotationsOf(spec);
  const named = podAnnotations.map((name) => annotations[name]).find((value) => isNamed(value));
  return typeof named === "string" ? named : id;
}

function isNamed(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function annotationsOf(spec: Any | undefined): Readonly<Record<string, unknown>> {
  if (!spec) return {};
  try {
    const parsed: unknown = JSON.parse(Buffer.from(spec.value).toString("utf8"));
    if (typeof parsed !== "object" || parsed === null || !("annotations" in parsed)) return {};
    const { annotations } = parsed;
    if (typeof annotations !== "object" || annotations === null) return {};
    return annotations as Readonly<Record<string, unknown>>; // -- an object, as just seen
  } catch {
    return {}; // -- no JSON: the runtime refuses it, in its own words
  }
}
