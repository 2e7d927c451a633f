import * as v from "valibot";
import { type Ask, type BlobBody, openBody } from "#core/remotes/blob-body.ts";
import { ociIndex } from "#core/remotes/media-type.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import {
  manifestBytesMax,
  type ReferrersOptions,
  type RemoteDescriptor,
} from "#core/remotes/remotes.ts";
import { pullScope, type Repository, type RepositoryRequest } from "#core/remotes/repository.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, parseDigest } from "#pkg/digest.ts";
import { CodedError, isNotFound, messageOf, notFound } from "#pkg/errors.ts";

/** What refers to a digest, by the referrers API, or by the tag of hosts that have none. */
export async function fetchReferrers(
  ctx: Context,
  repository: Repository,
  digest: Digest,
  { artifactTypes = [], filters = {} }: ReferrersOptions,
): Promise<readonly RemoteDescriptor[]> {
  const query = [
    ...artifactTypes.map((type) => ["artifactType", type] as const),
    ...Object.entries(filters),
  ];
  const able = repository.hostsFor("referrers");
  const fallback = able.length > 0 ? able : repository.hosts("referrers", ["resolve"]);
  const tag = digest.replace(":", "-");
  const asked = await firstBody(ctx, repository, able, { path: ["referrers", digest], query });
  const answer =
    asked.body === undefined
      ? await firstBody(ctx, repository, fallback, { path: ["manifests", tag] })
      : asked;
  if (answer.body === undefined) {
    const failure = asked.failure ?? answer.failure;
    // -- what a host threw, as it came
    if (failure) throw failure.error;
    return [];
  }
  const found = parseIndex(await readIndex(answer.body));
  if (artifactTypes.length === 0) return found;
  return found.filter(({ artifactType = "" }) => artifactTypes.includes(artifactType));
}

interface Answer {
  readonly body?: BlobBody;
  readonly failure?: { readonly error: unknown } | undefined;
}

/** Of a host that has it, or the first failure: none where every host says that there is nothing. */
async function firstBody(
  ctx: Context,
  repository: Repository,
  hosts: readonly RegistryHost[],
  request: Pick<RepositoryRequest, "path" | "query">,
): Promise<Answer> {
  const scopes = [pullScope(repository.reference.repository)];
  let failure: Answer["failure"];
  for (const [i, host] of hosts.entries()) {
    const isLastHost = i === hosts.length - 1;
    try {
      const ask: Ask = async (headers) => {
        const fields = { accept: [`${ociIndex}, */*`], ...headers };
        const full = { ...request, method: "GET", headers: fields, scopes };
        const answer = await repository.ask(ctx, host, full, { isLastHost });
        if (request.path[0] === "referrers") await assertKnown(answer, host);
        return answer;
      };
      return { body: await openBody(ask, { offset: 0 }) };
    } catch (error) {
      ctx.throwIfEnded();
      if (isNotFound(error)) continue;
      ctx.logger.debug("error fetching referrers", { host: host.host, error });
      failure ??= { error };
    }
  }
  return { failure };
}

/** Registries from before there was such an API say more than 404 to its path. */
async function assertKnown({ response }: HostAnswer, { host }: RegistryHost): Promise<void> {
  if (![400, 405, 501].includes(response.status)) return;
  await response.discard();
  throw notFound(`referrers API of ${host}`);
}

async function readIndex(body: BlobBody): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of body.chunks) {
      parts.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > manifestBytesMax) break;
    }
  } finally {
    await body.close();
  }
  if (sizeBytes <= manifestBytesMax) return Buffer.concat(parts);
  throw notFound(`referrers index size exceeds maximum allowed ${manifestBytesMax}`);
}

const annotations = v.optional(v.record(v.string(), v.string()), {});

const descriptor = v.object({
  mediaType: v.string(),
  digest: v.string(),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  annotations,
  artifactType: v.optional(v.string()),
  urls: v.optional(v.array(v.string())),
  platform: v.optional(
    v.object({
      os: v.string(),
      architecture: v.string(),
      variant: v.optional(v.string()),
      "os.version": v.optional(v.string()),
      "os.features": v.optional(v.array(v.string())),
    }),
  ),
});

const index = v.object({ manifests: v.optional(v.nullable(v.array(descriptor))) });

function parseIndex(bytes: Buffer): readonly RemoteDescriptor[] {
  try {
    const { manifests } = v.parse(index, JSON.parse(bytes.toString("utf8")));
    return (manifests ?? []).map(toDescriptor);
  } catch (cause) {
    const message = `failed to decode referrers index: ${messageOf(cause)}`;
    throw new CodedError("unavailable", message, { cause });
  }
}

function toDescriptor(one: v.InferOutput<typeof descriptor>): RemoteDescriptor {
  const { mediaType, digest, size, platform, artifactType, urls } = one;
  return {
    mediaType,
    digest: parseDigest(digest),
    sizeBytes: size,
    annotations: one.annotations,
    ...(artifactType !== undefined && { artifactType }),
    ...(urls && { urls }),
    ...(platform && {
      platform: {
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        osVersion: platform["os.version"],
        osFeatures: platform["os.features"],
      },
    }),
  };
}
