import { type BlobBody, type ByteRange, openBody } from "#core/remotes/blob-body.ts";
import { type BlobReaderOptions, readBlob } from "#core/remotes/blob-reader.ts";
import { contentLength, type HttpClient } from "#core/remotes/http-client.ts";
import { isManifestType } from "#core/remotes/media-type.ts";
import { fetchReferrers } from "#core/remotes/referrers.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import type {
  FetchedByDigest,
  Fetcher,
  FetchOptions,
  ReferrersOptions,
  RemoteDescriptor,
} from "#core/remotes/remotes.ts";
import { pullScope, type Repository } from "#core/remotes/repository.ts";
import { externalHost, isOriginOf } from "#core/remotes/external-host.ts";
import { defaultTls } from "#core/remotes/tls-settings.ts";
import type { ClientSource } from "#core/remotes/transports.ts";
import { unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { CodedError, invalidArgument, isNotFound, notFound } from "#pkg/errors.ts";

export interface RegistryFetcherOptions extends Pick<BlobReaderOptions, "limit" | "parallel"> {
  readonly transports: ClientSource;
}

/** Of a descriptor, that are asked. */
const urlsMax = 8;

type Open = (ctx: Context, range: ByteRange) => Promise<BlobBody>;

export class RegistryFetcher implements Fetcher {
  readonly #repository: Repository;
  readonly #options: RegistryFetcherOptions;

  constructor(repository: Repository, options: RegistryFetcherOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  fetch(
    ctx: Context,
    descriptor: RemoteDescriptor,
    { offset = 0 }: FetchOptions = {},
  ): AsyncIterable<Uint8Array> {
    const { sizeBytes, digest } = descriptor;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw invalidArgument(`invalid descriptor size ${sizeBytes}`);
    }
    assertOffset(offset);
    const { limit, parallel } = this.#options;
    const open = this.#opener(descriptor);
    return readBlob(ctx, { name: digest, sizeBytes, open, limit, parallel }, offset);
  }

  async fetchByDigest(
    ctx: Context,
    digest: Digest,
    { mediaType }: { readonly mediaType?: string | undefined } = {},
  ): Promise<FetchedByDigest> {
    const { path, sizeBytes } = await this.#find(ctx, digest, mediaType ?? "");
    const descriptor = {
      mediaType: mediaType ?? "application/octet-stream",
      digest,
      // What is not known is asked for as it comes.
      sizeBytes: sizeBytes ?? 0,
      annotations: {},
    };
    const { limit } = this.#options;
    const open: Open = (scope, range) => this.#openAtHosts(scope, path, mediaType ?? "", range);
    return {
      descriptor,
      stream: ({ offset = 0 } = {}) => {
        assertOffset(offset);
        return readBlob(ctx, { name: digest, sizeBytes, open, limit }, offset);
      },
    };
  }

  referrers(
    ctx: Context,
    digest: Digest,
    options: ReferrersOptions = {},
  ): Promise<readonly RemoteDescriptor[]> {
    return fetchReferrers(ctx, this.#repository, digest, options);
  }

  #opener(descriptor: RemoteDescriptor): Open {
    const { mediaType, digest, urls = [] } = descriptor;
    const path = [isManifestType(mediaType) ? "manifests" : "blobs", digest];
    let elsewhere = urls.flatMap(parseUrl).slice(0, urlsMax);
    let failure: { readonly error: unknown } | undefined;
    return async (ctx, range) => {
      try {
        for (const url of elsewhere) {
          const body = await this.#openElsewhere(ctx, url, mediaType, range);
          if (body) return body;
        }
      } catch (error) {
        ctx.throwIfEnded();
        ctx.logger.info("fetch from a URL of the descriptor failed", { digest, error });
        // Places to download from are everybody's: whoever wrote the manifest is not waited for again.
        elsewhere = [];
        failure ??= { error };
      }
      try {
        return await this.#openAtHosts(ctx, path, mediaType, range);
      } catch (error) {
        if (!isNotFound(error)) throw error;
        // -- as it came
        if (failure) throw failure.error;
        const what = `could not fetch content descriptor ${digest} (${mediaType}) from remote`;
        throw notFound(what, { cause: error });
      }
    };
  }

  /** The first host that has it; of several failures the first is told. */
  async #openAtHosts(
    ctx: Context,
    path: readonly string[],
    mediaType: string,
    range: ByteRange,
  ): Promise<BlobBody> {
    const hosts = this.#repository.hosts("pull", ["pull"]);
    let first: unknown;
    for (const [i, host] of hosts.entries()) {
      try {
        return await this.#openAt(ctx, host, {
          path,
          mediaType,
          range,
          isLastHost: i === hosts.length - 1,
        });
      } catch (error) {
        ctx.throwIfEnded();
        ctx.logger.debug("fetch failed", { host: host.host, error });
        first ??= error;
      }
    }
    throw first;
  }

  #openAt(
    ctx: Context,
    host: RegistryHost,
    given: { path: readonly string[]; mediaType: string; range: ByteRange; isLastHost: boolean },
  ): Promise<BlobBody> {
    const { path, mediaType, range, isLastHost } = given;
    const { repository } = this.#repository.reference;
    return openBody(
      (headers) =>
        this.#repository.ask(
          ctx,
          host,
          {
            method: "GET",
            path,
            headers: { accept: accept(mediaType), ...headers },
            scopes: [pullScope(repository)],
          },
          { isLastHost },
        ),
      range,
    );
  }

  /** Somebody else's server that a manifest names. Undefined where it has no such thing. */
  async #openElsewhere(
    ctx: Context,
    url: URL,
    mediaType: string,
    range: ByteRange,
  ): Promise<BlobBody | undefined> {
    const hosts = this.#repository.hosts("pull", ["pull"]);
    const host = externalHost(url, await this.#external());
    const isOwn = hosts.some((one) => isOriginOf(url, one));
    try {
      return await openBody(
        (headers) =>
          this.#repository.askUrl(
            ctx,
            host,
            {
              method: "GET",
              url,
              headers: { accept: accept(mediaType), ...headers },
              scopes: [],
              isForeign: !isOwn,
            },
            { isLastHost: false },
          ),
        range,
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
      ctx.logger.info("a URL of the descriptor leads to nothing", { host: url.host });
      return undefined;
    }
  }

  #external(): Promise<HttpClient> {
    return this.#options.transports.client({ tls: defaultTls });
  }

  async #find(
    ctx: Context,
    digest: Digest,
    mediaType: string,
  ): Promise<{ path: readonly string[]; sizeBytes: number | undefined }> {
    const hosts = this.#repository.hosts("pull", ["pull"]);
    const scopes = [pullScope(this.#repository.reference.repository)];
    let first: unknown;
    for (const kind of ["blobs", "manifests"]) {
      const path = [kind, digest];
      for (const [i, host] of hosts.entries()) {
        try {
          const { response, method } = await this.#repository.ask(
            ctx,
            host,
            { method: "HEAD", path, headers: { accept: accept(mediaType) }, scopes },
            { isLastHost: i === hosts.length - 1 },
          );
          if (response.status >= 300) throw await unexpectedStatus(method, response);
          await response.discard();
          return { path, sizeBytes: contentLength(response) };
        } catch (error) {
          ctx.throwIfEnded();
          first ??= error;
        }
      }
    }
    if (!isNotFound(first)) throw first;
    throw notFound(`could not fetch content ${digest} from remote`, { cause: first });
  }
}

/** One of a descriptor that may be asked, or none. */
function parseUrl(text: string): readonly URL[] {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) return [];
  url.username = "";
  url.password = "";
  return [url];
}

function accept(mediaType: string): readonly string[] {
  return [mediaType === "" ? "*/*" : `${mediaType}, */*`];
}

function assertOffset(offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return;
  throw new CodedError("invalid-argument", `invalid offset ${offset}`);
}
