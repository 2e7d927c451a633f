import { assertPushedDigest } from "#core/remotes/pushed-digest.ts";
import { isManifestType } from "#core/remotes/media-type.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import {
  manifestBytesMax,
  type Pusher,
  type PushOptions,
  type PushResult,
  type PushSource,
} from "#core/remotes/remotes.ts";
import { pushScope, type Repository } from "#core/remotes/repository.ts";
import { refusalBody } from "#core/remotes/resolve.ts";
import { statusError, unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import { uploadBlob } from "#core/remotes/upload.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { codeOf, failedPrecondition, invalidArgument, wrap } from "#pkg/errors.ts";

export interface RegistryPusherOptions {
  readonly chunkBytes: number | undefined;
}

export class RegistryPusher implements Pusher {
  readonly #repository: Repository;
  readonly #options: RegistryPusherOptions;

  constructor(repository: Repository, options: RegistryPusherOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async push(
    ctx: Context,
    descriptor: Descriptor,
    source: PushSource,
    options: PushOptions = {},
  ): Promise<PushResult> {
    const { mediaType, sizeBytes } = descriptor;
    if (mediaType === "") throw invalidArgument("descriptor media type must not be empty");
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw invalidArgument(`invalid descriptor size ${sizeBytes}`);
    }
    const [host] = this.#repository.hosts("push", ["push"]);
    if (!host) throw invalidArgument("no push hosts");
    const path = isManifestType(mediaType)
      ? this.#manifestPath(descriptor)
      : ["blobs", descriptor.digest];
    if (await this.#exists(ctx, host, descriptor, path)) return { outcome: "exists" };
    try {
      if (isManifestType(mediaType)) {
        return await this.#putManifest(ctx, { host, path, descriptor, source, options });
      }
      const { chunkBytes } = this.#options;
      const repository = this.#repository;
      return await uploadBlob(ctx, { repository, host, descriptor, source, options, chunkBytes });
    } catch (error) {
      if (codeOf(error) !== "unauthenticated") throw error;
      const what = "push access denied, repository does not exist or may require authorization";
      throw wrap(what, error);
    }
  }

  /** By its tag, unless the reference has the digest of something else: an index's part. */
  #manifestPath({ digest }: Descriptor): readonly string[] {
    const { tag, digest: wanted } = this.#repository.reference;
    const isTagged = tag !== "" && (wanted === undefined || wanted === digest);
    return ["manifests", isTagged ? tag : digest];
  }

  async #exists(
    ctx: Context,
    host: RegistryHost,
    { digest, mediaType }: Descriptor,
    path: readonly string[],
  ): Promise<boolean> {
    const ask = (method: string, isLastHost: boolean): Promise<HostAnswer> =>
      this.#repository.ask(
        ctx,
        host,
        { method, path, headers: { accept: [`${mediaType}, */*`] }, scopes: this.#scopes() },
        { isLastHost },
      );
    let answer: HostAnswer;
    try {
      answer = await ask("HEAD", true);
    } catch (error) {
      if (codeOf(error) !== "unauthenticated") throw error;
      ctx.logger.debug("unable to check existence, continuing with push", { error });
      return false;
    }
    const { response, method } = answer;
    if (response.status === 200) {
      await response.discard();
      return path[1] === digest || response.header("docker-content-digest") === digest;
    }
    if ([400, 403].includes(response.status) && method === "HEAD") {
      await response.discard();
      const body = await refusalBody(response.status, () => ask("GET", false));
      throw statusError("HEAD", response, body);
    }
    if (response.status !== 404) throw await unexpectedStatus(method, response);
    await response.discard();
    return false;
  }

  async #putManifest(
    ctx: Context,
    given: {
      host: RegistryHost;
      path: readonly string[];
      descriptor: Descriptor;
      source: PushSource;
      options: PushOptions;
    },
  ): Promise<PushResult> {
    const { host, path, descriptor, source, options } = given;
    const bytes = await readManifest(descriptor, source);
    const { response, method } = await this.#repository.ask(
      ctx,
      host,
      {
        method: "PUT",
        path,
        headers: { "content-type": [descriptor.mediaType] },
        body: { sizeBytes: bytes.length, open: () => bytes },
        scopes: this.#scopes(),
      },
      { isLastHost: true },
    );
    if (![200, 201, 202, 204].includes(response.status)) {
      throw await unexpectedStatus(method, response);
    }
    await response.discard();
    assertPushedDigest(response, descriptor.digest);
    options.onProgress?.(bytes.length);
    return { outcome: "pushed" };
  }

  #scopes(): readonly string[] {
    return [pushScope(this.#repository.reference.repository)];
  }
}

async function readManifest(
  { digest, sizeBytes }: Descriptor,
  source: PushSource,
): Promise<Buffer> {
  if (sizeBytes > manifestBytesMax) {
    throw invalidArgument(`manifest ${digest} of ${sizeBytes} bytes, at most ${manifestBytesMax}`);
  }
  const chunks: Uint8Array[] = [];
  let read = 0;
  for await (const chunk of source.stream()) {
    chunks.push(chunk);
    read += chunk.length;
    if (read > sizeBytes) break;
  }
  if (read === sizeBytes) return Buffer.concat(chunks);
  throw failedPrecondition(`unexpected size ${read} of ${digest}, expected ${sizeBytes}`);
}
