import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

/** What is known of a container; a process only exists once a task was made of it. */
export interface Container {
  readonly id: string;
  readonly labels: Labels;
  /** Name of the image it was made from, or empty. */
  readonly image: string;
  readonly runtime: { readonly name: string; readonly options: Any | undefined };
  /** The OCI runtime spec. */
  readonly spec: Any | undefined;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
  readonly extensions: Readonly<Record<string, Any>>;
  /** Id of the sandbox it belongs to, or empty. */
  readonly sandbox: string;
}

/** Fields a caller gives; the store adds the times. */
export type ContainerInput = Omit<Container, "createdAt" | "updatedAt">;

/** Records of containers, by namespace. */
export interface ContainerStore {
  /** Throws `not-found`. */
  get(ctx: Context, id: string): Promise<Container>;
  list(ctx: Context, filters?: readonly string[]): Promise<readonly Container[]>;
  /** Throws `already-exists`; `invalid-argument` naming the field. */
  create(ctx: Context, container: ContainerInput): Promise<Container>;
  /** Fields as features B1; `snapshotter` and `runtime.name` never change: `invalid-argument`. */
  update(ctx: Context, container: ContainerInput, fields?: readonly string[]): Promise<Container>;
  /** Throws `not-found`. Says nothing about a running task: the client looks first. */
  delete(ctx: Context, id: string): Promise<void>;
}
