import type { Bundle } from "#core/runtime/bundle.ts";
import type { ProcessExit } from "#core/runtime/runtime.ts";
import type { ShimCommand } from "#core/runtime/shim-command.ts";
import type { ShimLink } from "#core/runtime/shim-link.ts";
import { alreadyExists } from "#pkg/errors.ts";

/**
 * - `creating`: its task is being made, or found again; whoever does so also cleans up.
 * - `live`: its task is there, and its loss is cleaned up.
 * - `ending`: its task was deleted; what is left goes without a word.
 */
export type ShimPhase = "creating" | "live" | "ending";

/** One bundle's shim as the daemon knows it. */
export class ShimRecord {
  readonly bundle: Bundle;
  readonly link: ShimLink;
  /** Cleans up when the shim cannot any more. */
  readonly command: ShimCommand;
  phase: ShimPhase = "creating";
  /** What the first successful delete answered: a retry after a failed shutdown gives it again. */
  deleted: ProcessExit | undefined;
  /** Under way or done; resolves with how the task ended, where that could be found out. */
  cleanup: Promise<ProcessExit | undefined> | undefined;

  readonly #resources: AsyncDisposableStack;

  constructor(options: {
    readonly bundle: Bundle;
    readonly link: ShimLink;
    readonly command: ShimCommand;
    /** Closed with the record: the link, the reader of its log. */
    readonly resources: AsyncDisposableStack;
  }) {
    this.bundle = options.bundle;
    this.link = options.link;
    this.command = options.command;
    this.#resources = options.resources;
  }

  get id(): string {
    return this.bundle.id;
  }

  get namespace(): string {
    return this.bundle.namespace;
  }

  /** The shim goes on without this daemon. Twice is once. */
  async close(): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** The records by namespace and id. */
export class ShimRecords {
  readonly #byNamespace = new Map<string, Map<string, ShimRecord>>();

  /** Throws `already-exists`. */
  add(record: ShimRecord): void {
    const records = this.#byNamespace.get(record.namespace) ?? new Map<string, ShimRecord>();
    if (records.has(record.id)) throw alreadyExists(`task ${record.id}`);
    records.set(record.id, record);
    this.#byNamespace.set(record.namespace, records);
  }

  get(namespace: string, id: string): ShimRecord | undefined {
    return this.#byNamespace.get(namespace)?.get(id);
  }

  /** Of one namespace, of all without one. */
  list(namespace?: string): ShimRecord[] {
    if (namespace !== undefined) return [...(this.#byNamespace.get(namespace)?.values() ?? [])];
    return [...this.#byNamespace.values()].flatMap((records) => [...records.values()]);
  }

  /** False when another has its place, or none. */
  delete(record: ShimRecord): boolean {
    const records = this.#byNamespace.get(record.namespace);
    if (!records || records.get(record.id) !== record) return false;
    records.delete(record.id);
    if (records.size === 0) this.#byNamespace.delete(record.namespace);
    return true;
  }
}
