import type { Fetcher, Pusher, RemoteDescriptor, Resolver } from "#core/remotes/remotes.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { parseDigest } from "#pkg/digest.ts";
import { CodedError, notFound, notImplemented } from "#pkg/errors.ts";
import type { Image } from "#test/support/images.ts";

export const reference = "registry.test/library/image:1";

export function registryObject(): RegistryObject {
  const none = { headers: {}, hostDir: "", defaultScheme: "", credentials: undefined };
  return { kind: "registry", reference, ...none };
}

/** One image, in memory, with the faults that a test sets. Logs what it was asked for. */
export class FakeRegistry implements Resolver, Fetcher, Pusher {
  readonly fetched: { readonly digest: string; readonly offset: number }[] = [];
  readonly pushed: string[] = [];
  /** Bytes sent instead, for one digest. */
  readonly forged = new Map<string, Uint8Array>();
  /** What it says refers to a digest. */
  readonly referring = new Map<string, readonly RemoteDescriptor[]>();
  /** So many bytes are sent, and then the connection is lost for good. */
  cutAt: { readonly digest: string; readonly bytes: number } | undefined;
  /** Awaited before the first byte of each blob. */
  beforeFetch: (digest: string) => Promise<void> = async () => {};
  image: Image;

  constructor(image: Image) {
    this.image = image;
  }

  async resolve(): ReturnType<Resolver["resolve"]> {
    const { mediaType, digest, size } = this.image.target;
    const descriptor = { mediaType, digest: parseDigest(digest), sizeBytes: size, annotations: {} };
    return { name: reference, descriptor };
  }

  async fetcher(): Promise<Fetcher> {
    return this;
  }

  async pusher(): Promise<Pusher> {
    return this;
  }

  async *fetch(
    ...[, { digest }, { offset = 0 } = {}]: Parameters<Fetcher["fetch"]>
  ): AsyncGenerator<Uint8Array> {
    this.fetched.push({ digest, offset });
    const bytes = this.forged.get(digest) ?? this.image.blobs.get(digest);
    if (!bytes) throw notFound(digest);
    await this.beforeFetch(digest);
    const end = this.cutAt?.digest === digest ? this.cutAt.bytes : bytes.length;
    for (let at = offset; at < end; at += 1000) {
      yield bytes.subarray(at, Math.min(at + 1000, end));
    }
    if (end < bytes.length) throw new CodedError("data-loss", "unexpected EOF");
  }

  async push(...[, { digest }, source]: Parameters<Pusher["push"]>): ReturnType<Pusher["push"]> {
    for await (const _ of source.stream());
    this.pushed.push(digest);
    return { outcome: "pushed" };
  }

  fetchByDigest(): never {
    throw notImplemented("fetchByDigest");
  }

  async referrers(
    ...[, digest, { artifactTypes = [] } = {}]: Parameters<Fetcher["referrers"]>
  ): ReturnType<Fetcher["referrers"]> {
    const all = this.referring.get(digest) ?? [];
    if (artifactTypes.length === 0) return all;
    return all.filter(({ artifactType = "" }) => artifactTypes.includes(artifactType));
  }
}
