import type { ContentStore } from "#core/content/content.ts";
import { subjectAnnotation } from "#core/images/annotations.ts";
import { labelChildren } from "#core/images/gc-labels.ts";
import { childrenOf, subjectOf } from "#core/images/manifest.ts";
import { dispatch, ReferenceCount, type Visit, visitOnce } from "#core/images/walk.ts";
import type { Fetcher } from "#core/remotes/remotes.ts";
import type { ProgressTracker } from "#core/transfer/progress-tracker.ts";
import type { Context } from "#pkg/context.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { isIndex, isManifest } from "#pkg/media-types.ts";

export interface ReferrersOptions {
  /** Types of artifacts that are wanted; none: every type. */
  readonly artifactTypes: readonly string[];
  readonly content: ContentStore;
  readonly fetcher: Pick<Fetcher, "referrers">;
  readonly tracker: ProgressTracker;
  readonly fetch: (ctx: Context, descriptor: ImageDescriptor) => Promise<void>;
}

/**
 * What a registry says refers to the manifests of an image: signatures, attestations, lists of contents, and what
 * refers to those. Each is kept by the label of what it refers to, and goes with it.
 */
export class Referrers {
  readonly #options: ReferrersOptions;
  readonly #count = new ReferenceCount();
  readonly #found: ImageDescriptor[] = [];

  constructor(options: ReferrersOptions) {
    this.#options = options;
  }

  /** Asks what refers to a manifest or an index; nothing refers to anything else. */
  async note(ctx: Context, subject: ImageDescriptor): Promise<void> {
    this.#found.push(...(await this.#ask(ctx, subject)));
  }

  /** Fetches what was noted, with all that is below it. */
  async fetchAll(ctx: Context): Promise<void> {
    await dispatch(ctx, visitOnce(this.#visit), this.#found);
  }

  async #ask(ctx: Context, subject: ImageDescriptor): Promise<readonly ImageDescriptor[]> {
    if (!isDocument(subject)) return [];
    const { fetcher, artifactTypes, tracker } = this.#options;
    const all = await fetcher.referrers(ctx, subject.digest, { artifactTypes });
    const found = all.filter(isDocument).map(({ annotations, ...rest }): ImageDescriptor => {
      return { ...rest, annotations: { ...annotations, [subjectAnnotation]: subject.digest } };
    });
    tracker.addChildren(subject, found);
    return this.#count.admit(found);
  }

  readonly #visit: Visit = async (ctx, descriptor) => {
    const { content, fetch, tracker } = this.#options;
    await fetch(ctx, descriptor);
    const claimed = descriptor.annotations[subjectAnnotation];
    if (claimed !== undefined) {
      const subject = await subjectOf(ctx, content, descriptor);
      if (subject?.digest !== claimed) {
        // Only the registry said so: whoever made it did not.
        ctx.logger.warn("what is listed as a referrer refers to something else", {
          digest: descriptor.digest,
          subject: claimed,
        });
        return [];
      }
      await labelChildren(ctx, content, subject, [descriptor]);
    }
    const children = await childrenOf(ctx, content, descriptor);
    await labelChildren(ctx, content, descriptor, children);
    tracker.addChildren(descriptor, children);
    return [...children, ...(await this.#ask(ctx, descriptor))];
  };
}

function isDocument({ mediaType }: { readonly mediaType: string }): boolean {
  return isManifest(mediaType) || isIndex(mediaType);
}
