import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Digest } from "#pkg/digest.ts";
import type { Platform } from "#pkg/platform.ts";

/** What an index or a manifest at a registry says of one of its parts. */
export interface RemoteDescriptor extends Descriptor {
  /**
   * Other places that have the bytes; asked first, without any credentials. Header fields of the client's that may be
   * secret go to those of the registry's own scheme, name and port only.
   */
  readonly urls?: readonly string[] | undefined;
  readonly artifactType?: string | undefined;
  readonly platform?: Platform | undefined;
}

export interface Resolved {
  /** A reference that stands for the same; the one that was asked for, at a registry. */
  readonly name: string;
  /** Without annotations: a registry answers a name with type, digest and size only. */
  readonly descriptor: Descriptor;
}

/**
 * Finds content by references and hands out what moves it. `docker.io/library/redis:7` is a
 * reference: host, path and object, no scheme (`#pkg/reference.ts`).
 *
 * Hosts and credentials are looked up anew by each call, so a change of configuration holds from
 * the next one on. Everything throws, besides what is said below: `invalid-argument` for a malformed
 * reference, `unauthenticated` and `permission-denied` when the registry refuses, `not-found`,
 * `resource-exhausted` for a rate limit (the message says how long), `unavailable` for whatever
 * lies between (name lookup, connection, TLS, proxy), `canceled` and `deadline-exceeded`.
 */
export interface Resolver {
  /**
   * What the name stands for now. A name with a digest is not trusted to anybody; one with only a
   * tag is asked of hosts that may resolve.
   *
   * Throws `not-found` also for a manifest above `manifestBytesMax`.
   */
  resolve(ctx: Context, ref: string): Promise<Resolved>;
  /** Everything it fetches is from the repository of `ref`. */
  fetcher(ctx: Context, ref: string): Promise<Fetcher>;
  /** Everything it pushes goes to the repository of `ref`; a manifest under its object. */
  pusher(ctx: Context, ref: string): Promise<Pusher>;
}

/** The largest manifest or index taken from a registry. */
export const manifestBytesMax: number = 4 * 1048 * 1048;

export interface FetchOptions {
  /** Where to begin. Nothing before it is yielded, also when the registry ignores ranges. */
  readonly offset?: number | undefined;
}

export interface Fetcher {
  /**
   * The bytes of a blob, in order, each once: asked for when the first is pulled, and closed when
   * the loop is left.
   *
   * A connection that breaks or stalls is made anew from where it was. The bytes are not hashed:
   * what takes them in compares digests. Throws `failed-precondition` when there is more than the
   * descriptor's size, `data-loss` when it ends before and trying again brings nothing more,
   * `invalid-argument` for a negative size.
   */
  fetch(
    ctx: Context,
    descriptor: RemoteDescriptor,
    options?: FetchOptions,
  ): AsyncIterable<Uint8Array>;

  /**
   * Content of which only the digest is known: a blob, or else a manifest. The descriptor is what
   * the registry said, its type `application/octet-stream` unless given.
   *
   * Throws `not-found`.
   */
  fetchByDigest(
    ctx: Context,
    digest: Digest,
    options?: { readonly mediaType?: string | undefined },
  ): Promise<FetchedByDigest>;

  /**
   * What refers to a manifest: signatures, attestations, SBOMs. None is an empty list.
   *
   * Registries without the referrers API are asked for the tag that stands in for it.
   */
  referrers(
    ctx: Context,
    digest: Digest,
    options?: ReferrersOptions,
  ): Promise<readonly RemoteDescriptor[]>;
}

export interface FetchedByDigest {
  readonly descriptor: Descriptor;
  /** As `Fetcher.fetch`. */
  stream(options?: FetchOptions): AsyncIterable<Uint8Array>;
}

export interface ReferrersOptions {
  /** Only these types; none: all. */
  readonly artifactTypes?: readonly string[] | undefined;
  /** Further query parameters for registries that filter by them. */
  readonly filters?: Readonly<Record<string, string>> | undefined;
}

/**
 * Where the bytes of a push come from. It is read again from an offset when an upload breaks: a
 * `ContentReader` is one.
 */
export interface PushSource {
  stream(range?: { readonly offset?: number }): AsyncIterable<Uint8Array>;
}

export interface PushOptions {
  /** Bytes that the registry has been sent; falls back when an upload begins anew. */
  readonly onProgress?: ((offset: number) => void) | undefined;
}

export interface PushResult {
  /** `exists`: it was there. `mounted`: the registry took it from another of its repositories. */
  readonly outcome: "pushed" | "exists" | "mounted";
  /** `HOST/REPOSITORY` for `mounted`. */
  readonly mountedFrom?: string | undefined;
}

export interface Pusher {
  /**
   * Puts a blob or a manifest into the registry, unless it is there.
   *
   * Blobs come before the manifests that name them. Annotations `containerd.io/distribution.source.HOST`
   * name repositories of the same registry that have the blob, for it to be mounted from. An upload
   * that breaks goes on from what the registry has kept. Throws `failed-precondition` when the source
   * has not as many bytes as the descriptor says or the registry made another digest of them.
   */
  push(
    ctx: Context,
    descriptor: Descriptor,
    source: PushSource,
    options?: PushOptions,
  ): Promise<PushResult>;
}

/** What else can be done with a registry. */
export interface RegistryBrowser {
  /** In the registry's order, page by page as the caller pulls. Throws `not-found`. */
  tags(ctx: Context, ref: string): AsyncIterable<string>;
  /** The repositories of the registry that `host` names; many registries refuse to list them. */
  repositories(ctx: Context, host: string): AsyncIterable<string>;
  /**
   * Deletes the manifest that `ref` names, by digest or by tag.
   *
   * Throws `not-found`, and `not-implemented` where the registry does not delete.
   */
  remove(ctx: Context, ref: string): Promise<void>;
}
