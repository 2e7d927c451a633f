import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";

export interface NamespaceRecord {
  readonly name: string;
  readonly labels: Labels;
}

/** The namespaces that exist. One comes to be with its first write, or by `create`. */
export interface NamespaceStore {
  /** An unknown namespace has no labels, and is no error: upstream's answer. */
  labels(ctx: Context, name: string): Promise<Labels>;
  list(ctx: Context): Promise<readonly NamespaceRecord[]>;
  /** Throws `already-exists`, `invalid-argument` for a name that is no identifier. */
  create(ctx: Context, name: string, labels: Labels): Promise<void>;
  /** An empty value removes the label. */
  setLabel(ctx: Context, name: string, key: string, value: string): Promise<void>;
  /** Replaces all labels, or those with the given keys, at once; a key that has no value goes. */
  update(ctx: Context, record: NamespaceRecord, keys?: readonly string[]): Promise<void>;
  /** Throws `not-found`, and `failed-precondition` naming what it still has. */
  delete(ctx: Context, name: string): Promise<void>;
}
