import type { RequestBody } from "#core/remotes/http-client.ts";
import { mountCandidate } from "#core/remotes/mount-candidate.ts";
import { assertPushedDigest } from "#core/remotes/pushed-digest.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import type { PushOptions, PushResult, PushSource } from "#core/remotes/remotes.ts";
import { pullScope, pushScope, type Repository } from "#core/remotes/repository.ts";
import { faultOf } from "#core/remotes/transport-error.ts";
import { unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import { openSession, rangeEnd, type UploadSession } from "#core/remotes/upload-session.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { CodedError, codeOf, failedPrecondition } from "#pkg/errors.ts";
import { pause } from "#pkg/retry.ts";

export interface BlobUpload {
  readonly repository: Repository;
  readonly host: RegistryHost;
  readonly descriptor: Descriptor;
  readonly source: PushSource;
  readonly options: PushOptions;
  /** Undefined: all in one request. */
  readonly chunkBytes: number | undefined;
}

const failuresMax = 3;
const attemptsMax = 100;
const failurePauseMs = 50;

/**
 * Uploads a blob, or has it mounted from another repository of the registry.
 *
 * An upload that breaks goes on at what the registry says that it has, or begins anew where the
 * registry knows nothing of it any more; after three breaks without progress it fails.
 */
export async function uploadBlob(ctx: Context, upload: BlobUpload): Promise<PushResult> {
  const started = await start(ctx, upload);
  if ("result" in started) return started.result;
  let session: UploadSession | undefined = started.session;
  let offset = 0;
  let furthest = 0;
  let failures = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      session ??= await restart(ctx, upload);
      await send(ctx, upload, session, offset);
      return { outcome: "pushed" };
    } catch (error) {
      ctx.throwIfEnded();
      if (!isBreak(error) || failures >= failuresMax || attempt === attemptsMax) throw error;
      ctx.logger.debug("upload broke", { digest: upload.descriptor.digest, error });
      await pause(ctx, failurePauseMs * 2 ** failures);
      const kept: number | undefined = session && (await keptBytes(ctx, upload, session));
      if (kept === undefined) session = undefined;
      offset = kept ?? 0;
      failures = offset > furthest ? 0 : failures + 1;
      furthest = Math.max(furthest, offset);
      upload.options.onProgress?.(offset);
    }
  }
}

/** Something between here and there, rather than the registry saying no. */
function isBreak(error: unknown): boolean {
  if (error instanceof BrokenUpload) return true;
  return ["broken", "stalled", "dial", "dial-timeout", "tls-timeout"].includes(
    faultOf(error) ?? "",
  );
}

/** The registry's answer was that it is in trouble, or has other bytes than were sent. */
class BrokenUpload extends Error {}

async function start(
  ctx: Context,
  upload: BlobUpload,
): Promise<{ result: PushResult } | { session: UploadSession }> {
  const { repository, host, descriptor } = upload;
  const from = mountCandidate(repository.reference, descriptor.annotations);
  const mounted = from === undefined ? undefined : await tryMount(ctx, upload, from);
  const { response, method } = mounted ?? (await post(ctx, upload, [], []));
  switch (response.status) {
    case 200:
    case 202:
    case 204:
      await response.discard();
      return { session: openSession(host, response) };
    case 201: {
      await response.discard();
      if (mounted === undefined) return { result: { outcome: "exists" } };
      const mountedFrom = `${repository.reference.hostname}/${from}`;
      return { result: { outcome: "mounted", mountedFrom } };
    }
    default:
      throw await unexpectedStatus(method, response);
  }
}

/** Undefined where this identity may not read the other repository: it is uploaded then. */
async function tryMount(
  ctx: Context,
  upload: BlobUpload,
  from: string,
): Promise<HostAnswer | undefined> {
  const query = [
    ["mount", upload.descriptor.digest],
    ["from", from],
  ] as const;
  try {
    const answer = await post(ctx, upload, query, [pullScope(from)]);
    if (answer.response.status !== 401) return answer;
    await answer.response.discard();
  } catch (error) {
    if (codeOf(error) !== "unauthenticated") throw error;
    ctx.logger.debug("failed to mount from another repository", { from, error });
  }
  return undefined;
}

async function restart(ctx: Context, upload: BlobUpload): Promise<UploadSession> {
  const { response, method } = await post(ctx, upload, [], []);
  if (![200, 202, 204].includes(response.status)) throw await unexpectedStatus(method, response);
  await response.discard();
  return openSession(upload.host, response);
}

function post(
  ctx: Context,
  { repository, host }: BlobUpload,
  query: readonly (readonly [string, string])[],
  moreScopes: readonly string[],
): Promise<HostAnswer> {
  const scopes = [pushScope(repository.reference.repository), ...moreScopes];
  const body = { sizeBytes: 0, open: () => new Uint8Array() };
  return repository.ask(
    ctx,
    host,
    { method: "POST", path: ["blobs", "uploads", ""], query, body, scopes },
    { isLastHost: true },
  );
}

async function send(
  ctx: Context,
  upload: BlobUpload,
  session: UploadSession,
  start: number,
): Promise<void> {
  const { descriptor, chunkBytes } = upload;
  const { sizeBytes } = descriptor;
  let offset = start;
  // What is left of a broken upload cannot go with the last request: it names where it begins.
  const isWhole = chunkBytes === undefined && offset === 0;
  while (!isWhole && offset < sizeBytes) {
    const end = Math.min(sizeBytes, offset + (chunkBytes ?? sizeBytes));
    offset = await sendChunk(ctx, upload, session, { start: offset, end });
  }
  const body = bodyOf(upload, isWhole ? { start: 0, end: sizeBytes } : { start: 0, end: 0 });
  const url = new URL(session.url);
  url.searchParams.append("digest", descriptor.digest);
  const { response, method } = await request(ctx, upload, session, { method: "PUT", url, body });
  if (![200, 201, 202, 204].includes(response.status)) throw await problemOf(method, response);
  await response.discard();
  assertPushedDigest(response, descriptor.digest);
  upload.options.onProgress?.(sizeBytes);
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** How far the registry has come by it. */
async function sendChunk(
  ctx: Context,
  upload: BlobUpload,
  session: UploadSession,
  span: Span,
): Promise<number> {
  const body = bodyOf(upload, span);
  const range = `${span.start}-${span.end - 1}`;
  const { response, method } = await request(ctx, upload, session, {
    method: "PATCH",
    url: session.url,
    body,
    range,
  });
  if (![200, 202, 204].includes(response.status)) throw await problemOf(method, response);
  await response.discard();
  session.moveTo(response);
  const end = rangeEnd(response) ?? span.end;
  if (end > span.start && end <= span.end) return end;
  throw new BrokenUpload(`registry has ${end} bytes after ${span.end} were sent`);
}

async function problemOf(
  method: string,
  response: HostAnswer["response"],
): Promise<CodedError | BrokenUpload> {
  const error = await unexpectedStatus(method, response);
  const isTrouble = [404, 408, 416, 429, 500, 502, 503, 504].includes(response.status);
  return isTrouble ? new BrokenUpload(error.message, { cause: error }) : error;
}

async function request(
  ctx: Context,
  upload: BlobUpload,
  session: UploadSession,
  given: { method: string; url: URL; body?: CountedBody; range?: string },
): Promise<HostAnswer> {
  const { method, url, body, range } = given;
  const { repository } = upload;
  const headers = {
    ...(body && { "content-type": ["application/octet-stream"] }),
    ...(range !== undefined && { "content-range": [range] }),
  };
  const scopes = [pushScope(repository.reference.repository)];
  try {
    return await repository.askUrl(
      ctx,
      session.host,
      { method, url, headers, body, scopes, isForeign: session.isForeign },
      // What the registry has got of it has to be asked before anything is sent again.
      { isLastHost: true, isOnce: method !== "GET" },
    );
  } catch (error) {
    if (body?.failure !== undefined) throw body.failure;
    throw error;
  }
}

/** What the registry holds of an upload; undefined where it has forgotten it or does not tell. */
async function keptBytes(
  ctx: Context,
  upload: BlobUpload,
  session: UploadSession,
): Promise<number | undefined> {
  try {
    const { response } = await request(ctx, upload, session, { method: "GET", url: session.url });
    await response.discard();
    if (response.status !== 204 && response.status !== 202) return undefined;
    session.moveTo(response);
    const end = rangeEnd(response);
    return end !== undefined && end <= upload.descriptor.sizeBytes ? end : undefined;
  } catch (error) {
    ctx.throwIfEnded();
    ctx.logger.debug("state of the upload is not known", { error });
    return undefined;
  }
}

interface CountedBody extends RequestBody {
  /** Why the source, and not the connection, failed. */
  failure: CodedError | undefined;
}

function bodyOf({ source, descriptor, options }: BlobUpload, { start, end }: Span): CountedBody {
  if (start === end) {
    return { sizeBytes: 0, open: () => new Uint8Array(), failure: undefined };
  }
  const body: CountedBody = {
    sizeBytes: end - start,
    failure: undefined,
    async *open() {
      let position = start;
      try {
        for await (const chunk of source.stream({ offset: start })) {
          const part = chunk.subarray(0, end - position);
          position += part.length;
          if (part.length > 0) yield part;
          options.onProgress?.(position);
          if (part.length < chunk.length && end === descriptor.sizeBytes) {
            throw failedPrecondition(`more than the expected ${end} bytes of ${descriptor.digest}`);
          }
          if (position === end && end < descriptor.sizeBytes) return;
        }
        if (position < end) {
          throw failedPrecondition(
            `unexpected size ${position} of ${descriptor.digest}, expected ${descriptor.sizeBytes}`,
          );
        }
      } catch (error) {
        body.failure = asFailure(error);
        throw error;
      }
    },
  };
  return body;
}

function asFailure(error: unknown): CodedError {
  if (error instanceof CodedError) return error;
  return new CodedError(codeOf(error), `read content to push: ${String(error)}`, { cause: error });
}
