import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

export interface Image {
  readonly name: string;
  readonly labels: Labels;
  readonly target: Descriptor;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
}

/** Names for trees of content, by namespace. An image keeps its target from being collected. */
export interface ImageStore {
  /** Throws `not-found`. */
  get(ctx: Context, name: string): Promise<Image>;
  list(ctx: Context, filters?: readonly string[]): Promise<readonly Image[]>;
  /** Throws `already-exists`; `invalid-argument` for an empty name, digest or media type or a size not above 0. */
  create(
    ctx: Context,
    image: Pick<Image, "name" | "labels" | "target">,
    options?: { readonly createdAt?: UnixNanos | undefined },
  ): Promise<Image>;
  /** Fields: `labels`, `labels.KEY`, `target`, `annotations`, `annotations.KEY`; none: all of them. */
  update(
    ctx: Context,
    image: Pick<Image, "name" | "labels" | "target">,
    fields?: readonly string[],
    options?: { readonly updatedAt?: UnixNanos | undefined },
  ): Promise<Image>;
  /**
   * `sync` collects before it resolves, so that content and snapshots are free. With `target`, only an image that
   * still points there goes: else `not-found`.
   */
  delete(
    ctx: Context,
    name: string,
    options?: { readonly sync?: boolean | undefined; readonly target?: Descriptor | undefined },
  ): Promise<void>;
}
