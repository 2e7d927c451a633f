import { nowNanos, type UnixNanos } from "#pkg/time.ts";

const messages = {
  "io.containerd.deprecation/cgroup-v1":
    "The support for cgroup v1 is deprecated since containerd v2.2 and will be removed by no later than May 2029. " +
    "Upgrade the host to use cgroup v2.",
  "io.containerd.deprecation/runc-options-task-api-address":
    "The `task_api_address` field in runc options is deprecated since containerd v2.3. " +
    "Set `task_api_address` on CreateTaskRequest instead.",
  "io.containerd.deprecation/runc-options-task-api-version":
    "The `task_api_version` field in runc options is deprecated since containerd v2.3. " +
    "Set `task_api_version` on CreateTaskRequest instead.",
} as const;

export type DeprecationId = keyof typeof messages;

export interface Deprecation {
  readonly id: DeprecationId;
  readonly message: string;
  readonly lastOccurrence: UnixNanos;
}

/**
 * Collects uses of what is going away; `ctr deprecations list` shows them. The texts are
 * upstream's.
 */
export class Deprecations {
  readonly #last = new Map<DeprecationId, UnixNanos>();

  emit(id: DeprecationId): void {
    this.#last.set(id, nowNanos());
  }

  list(): readonly Deprecation[] {
    return Array.from(this.#last, ([id, lastOccurrence]) => ({
      id,
      message: messages[id],
      lastOccurrence,
    }));
  }
}
