import { contentLength, type HttpResponse } from "#core/remotes/http-client.ts";
import { dockerSchema1, manifestAccept, manifestTypeOf } from "#core/remotes/media-type.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { manifestBytesMax, type Resolved } from "#core/remotes/remotes.ts";
import { pullScope, type Repository } from "#core/remotes/repository.ts";
import { readErrorBody, statusError, unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, Digester, parseDigest } from "#pkg/digest.ts";
import { CodedError, codeOf, notFound, notImplemented, wrap } from "#pkg/errors.ts";

/** How far a host got; of several failures the one that got furthest is told. */
const progress = { unreachable: 1, absent: 2, refused: 3, tooLarge: 4 } as const;

interface Failure {
  readonly error: CodedError;
  readonly progress: number;
}

type Outcome = { readonly resolved: Resolved } | { readonly failure: Failure };

/** What a reference stands for, by the first host that says so. */
export async function resolveReference(
  ctx: Context,
  repository: Repository,
  ref: string,
  accept: readonly string[] | undefined,
): Promise<Resolved> {
  const { object, digest: digestText } = repository.reference;
  if (object === "") {
    throw new CodedError("invalid-argument", `reference ${JSON.stringify(ref)}: object required`);
  }
  const digest = digestText === undefined ? undefined : parseDigest(digestText);
  const hosts = repository.hosts("resolve", digest ? ["pull"] : ["pull", "resolve"]);
  const resolving = { ctx, repository, ref, digest, accept: accept ?? [manifestAccept] };
  let worst: Failure | undefined;
  // Blobs only where no host has it as a manifest: they would not say of what type it is.
  for (const path of digest
    ? [
        ["manifests", digest],
        ["blobs", digest],
      ]
    : [["manifests", object]]) {
    if (worst && worst.progress > progress.absent) break;
    for (const [i, host] of hosts.entries()) {
      const isLastHost = i === hosts.length - 1;
      const outcome = await resolveAt(resolving, host, { path, isLastHost });
      if ("resolved" in outcome) return outcome.resolved;
      const { error } = outcome.failure;
      ctx.logger.info(isLastHost ? "fetch failed" : "trying next host", { host: host.host, error });
      if (!worst || outcome.failure.progress > worst.progress) worst = outcome.failure;
    }
  }
  if (worst) throw worst.error;
  throw notFound(ref);
}

interface Resolving {
  readonly ctx: Context;
  readonly repository: Repository;
  readonly ref: string;
  readonly digest: Digest | undefined;
  readonly accept: readonly string[];
}

interface Attempt {
  readonly path: readonly string[];
  readonly isLastHost: boolean;
}

async function resolveAt(
  resolving: Resolving,
  host: RegistryHost,
  attempt: Attempt,
): Promise<Outcome> {
  let answer: HostAnswer;
  try {
    answer = await ask(resolving, host, { ...attempt, method: "HEAD" });
  } catch (error) {
    resolving.ctx.throwIfEnded();
    return { failure: { error: describe(error), progress: progress.unreachable } };
  }
  const { response } = answer;
  if (response.status >= 300) return refusal(resolving, host, answer, attempt);
  await response.discard();
  return describeTarget(resolving, host, response, attempt);
}

function ask(
  { ctx, repository, accept }: Resolving,
  host: RegistryHost,
  { path, isLastHost, method }: Attempt & { method: string },
): Promise<HostAnswer> {
  const scopes = [pullScope(repository.reference.repository)];
  const request = { method, path, headers: { accept }, scopes };
  return repository.ask(ctx, host, request, { isLastHost });
}

function describe(error: unknown): CodedError {
  if (codeOf(error) !== "unauthenticated") {
    return error instanceof CodedError ? error : wrap("resolve", error);
  }
  return wrap("pull access denied, repository does not exist or may require authorization", error);
}

async function refusal(
  resolving: Resolving,
  host: RegistryHost,
  { response, method }: HostAnswer,
  attempt: Attempt,
): Promise<Outcome> {
  if (response.status === 404) {
    await response.discard();
    return { failure: { error: notFound(resolving.ref), progress: progress.absent } };
  }
  const isBare = method === "HEAD" && [400, 403].includes(response.status);
  const error = isBare
    ? await explainBare(resolving, host, response, attempt)
    : await unexpectedStatus(method, response);
  return { failure: { error: describe(error), progress: progress.refused } };
}

/** HEAD has no body, and only a body says why. */
async function explainBare(
  resolving: Resolving,
  host: RegistryHost,
  response: HttpResponse,
  attempt: Attempt,
): Promise<CodedError> {
  await response.discard();
  const body = await refusalBody(response.status, () =>
    ask(resolving, host, { ...attempt, method: "GET", isLastHost: false }),
  );
  resolving.ctx.throwIfEnded();
  return statusError("HEAD", response, body);
}

/** The body of a GET that is refused like the HEAD before it; empty for any other answer. */
export async function refusalBody(status: number, get: () => Promise<HostAnswer>): Promise<string> {
  try {
    const { response } = await get();
    if (response.status === status) return await readErrorBody(response);
    await response.discard();
  } catch {
    return ""; // -- the refusal itself is told in any case
  }
  return "";
}

async function describeTarget(
  resolving: Resolving,
  host: RegistryHost,
  head: HttpResponse,
  attempt: Attempt,
): Promise<Outcome> {
  let sizeBytes = contentLength(head);
  let mediaType = manifestTypeOf(head);
  let digest = resolving.digest;
  const told = head.header("docker-content-digest");
  // Only a host that may resolve was asked: this is where a registry is taken at its word.
  if (!digest && told && sizeBytes !== undefined) {
    digest = parseDigestHeader(told);
  }
  if (!digest || sizeBytes === undefined) {
    const measured = await measure(resolving, host, attempt);
    ({ sizeBytes, mediaType } = measured);
    digest ??= measured.digest;
  }
  const { ref } = resolving;
  if (sizeBytes > manifestBytesMax) {
    const error = notFound(`rejecting ${sizeBytes} byte manifest for ${ref}`);
    return { failure: { error, progress: progress.tooLarge } };
  }
  const descriptor = { mediaType, digest, sizeBytes, annotations: {} };
  resolving.ctx.logger.debug("resolved", { digest });
  return { resolved: { name: ref, descriptor } };
}

function parseDigestHeader(value: string): Digest {
  try {
    return parseDigest(value);
  } catch (error) {
    throw wrap(`${JSON.stringify(value)} in header not a valid digest`, error);
  }
}

/** Reads it, for what the registry does not say of it; at most as much as would be taken. */
async function measure(
  resolving: Resolving,
  host: RegistryHost,
  attempt: Attempt,
): Promise<{ sizeBytes: number; mediaType: string; digest: Digest }> {
  const { response, method } = await ask(resolving, host, {
    ...attempt,
    method: "GET",
    isLastHost: true,
  });
  if (response.status >= 300) throw await unexpectedStatus(method, response);
  const mediaType = manifestTypeOf(response);
  if (!resolving.digest && mediaType === dockerSchema1) {
    await response.discard();
    throw notImplemented(
      `media type ${JSON.stringify(mediaType)} is no longer supported since containerd v2.0, ` +
        "please rebuild the image",
    );
  }
  const digester = new Digester();
  let sizeBytes = 0;
  for await (const chunk of response.body) {
    sizeBytes += chunk.length;
    digester.update(chunk);
    if (sizeBytes > manifestBytesMax) break;
  }
  return { sizeBytes, mediaType, digest: digester.digest() };
}
