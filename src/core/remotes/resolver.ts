import { RegistryFetcher } from "#core/remotes/fetcher.ts";
import type { BlobReaderOptions } from "#core/remotes/blob-reader.ts";
import { configuredHosts, type HostsOptions } from "#core/remotes/hosts.ts";
import type { HeaderFields } from "#core/remotes/http-client.ts";
import { RegistryPusher } from "#core/remotes/pusher.ts";
import type { RegistryHosts } from "#core/remotes/registry-host.ts";
import type {
  Fetcher,
  Pusher,
  RegistryBrowser,
  Resolved,
  Resolver,
} from "#core/remotes/remotes.ts";
import { listRepositories, listTags, removeManifest } from "#core/remotes/browse.ts";
import { Repository } from "#core/remotes/repository.ts";
import { resolveReference } from "#core/remotes/resolve.ts";
import type { ClientSource } from "#core/remotes/transports.ts";
import type { Context } from "#pkg/context.ts";
import { parseReference } from "#pkg/reference.ts";

export interface RegistryResolverOptions extends HostsOptions {
  /** The process's connections; outlive the resolver. */
  readonly transports: ClientSource;
  /** Instead of the hosts that `roots`, `defaultScheme` and `defaultTls` describe. */
  readonly hosts?: RegistryHosts | undefined;
  /** Sent with every request to a registry. */
  readonly headers?: HeaderFields | undefined;
  /** Shared by whoever downloads; also a stream that nobody reads on holds one. */
  readonly downloadLimit?: BlobReaderOptions["limit"];
  /** Default: one connection for each blob. */
  readonly parallel?: BlobReaderOptions["parallel"];
  /** Chunks of this size by PATCH instead of one PUT, for proxies that limit the size of requests. */
  readonly uploadChunkBytes?: number | undefined;
}

/** Registries of the OCI distribution specification, and Docker's. Holds nothing to be disposed. */
export class RegistryResolver implements Resolver, RegistryBrowser {
  readonly #options: RegistryResolverOptions;
  readonly #hosts: RegistryHosts;
  readonly #headers: HeaderFields;

  constructor(options: RegistryResolverOptions) {
    this.#options = options;
    this.#hosts = options.hosts ?? configuredHosts(options.transports, options);
    this.#headers = options.headers ?? {};
  }

  async resolve(ctx: Context, ref: string): Promise<Resolved> {
    return resolveReference(ctx, await this.#repository(ctx, ref), ref, this.#headers["accept"]);
  }

  async fetcher(ctx: Context, ref: string): Promise<Fetcher> {
    const { transports, downloadLimit: limit, parallel } = this.#options;
    return new RegistryFetcher(await this.#repository(ctx, ref), { transports, limit, parallel });
  }

  async pusher(ctx: Context, ref: string): Promise<Pusher> {
    const { uploadChunkBytes: chunkBytes } = this.#options;
    return new RegistryPusher(await this.#repository(ctx, ref), { chunkBytes });
  }

  async *tags(ctx: Context, ref: string): AsyncIterable<string> {
    yield* listTags(ctx, await this.#repository(ctx, ref));
  }

  async *repositories(ctx: Context, host: string): AsyncIterable<string> {
    yield* listRepositories(ctx, await this.#repository(ctx, host));
  }

  async remove(ctx: Context, ref: string): Promise<void> {
    await removeManifest(ctx, await this.#repository(ctx, ref), ref);
  }

  async #repository(ctx: Context, ref: string): Promise<Repository> {
    // What is accepted is the resolver's to say.
    const { accept: _accept, ...headers } = this.#headers;
    return Repository.open(ctx, parseReference(ref), { hosts: this.#hosts, headers });
  }
}
