import type { Unauthorized } from "#core/remotes/authorizer.ts";
import type { HttpResponse } from "#core/remotes/http-client.ts";
import { type HostAnswer, type HostRequest, sendToHost } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { faultOf, isTransient } from "#core/remotes/transport-error.ts";
import type { Context } from "#pkg/context.ts";
import { parseRetryAfter, pause } from "#pkg/retry.ts";

const attemptsMax = 5;
const transportPauseMs = 50;
const busyPauseMs = 100;
/** What is asked to wait longer fails, and the error says how long. */
const busyPauseMsMax = 10_000;
const busyPauseMsMaxElsewhere = 1_000;

export interface PerformOptions {
  /** Nobody else will be asked: then it is worth being patient. */
  readonly isLastHost: boolean;
  /** Sent again only when it was refused for want of credentials: what it did before is not known. */
  readonly isOnce?: boolean | undefined;
}

/**
 * Asks a host until there is an answer worth having, at most 5 times.
 *
 * Again after: 401, with what it then wants; 405 to a HEAD for a manifest, by GET; 408 and 429,
 * after a pause; at the last host also 500, 503 and 504, unless they come twice in a row, and
 * connections that break or time out. Any other answer, whatever its status, is the caller's.
 */
export async function perform(
  ctx: Context,
  host: RegistryHost,
  request: HostRequest,
  { isLastHost, isOnce = false }: PerformOptions,
): Promise<HostAnswer> {
  let { method } = request;
  const refused: Unauthorized[] = [];
  let previousStatus = 0;
  for (let attempt = 1; ; attempt++) {
    const sending = { ...request, method };
    const answer = isOnce
      ? await sendToHost(ctx, host, sending)
      : await sendPatiently(ctx, host, sending, { isLastHost, attempt });
    if (!answer) continue;
    const { response } = answer;
    const { status } = response;
    if (attempt === attemptsMax || (isOnce && status !== 401)) return answer;
    if (status === 401) {
      if (answer.isPlainer === true) return answer;
      refused.push({
        method: answer.method,
        url: response.url,
        scopes: request.scopes,
        challenges: response.headerLines("www-authenticate"),
      });
      const isKnown = await learn(ctx, host, response, refused);
      if (!isKnown) return answer;
    } else if (status === 405 && method === "HEAD" && isManifest(request.url)) {
      method = "GET";
    } else if (status === 408 || status === 429) {
      const isOver = await waitForTurn(ctx, response, { attempt, isLastHost });
      if (!isOver) return answer;
    } else if (!(isLastHost && [500, 503, 504].includes(status)) || previousStatus === status) {
      return answer;
    }
    previousStatus = status;
    await response.discard();
  }
}

/** Undefined: it did not work, and is worth another attempt. */
async function sendPatiently(
  ctx: Context,
  host: RegistryHost,
  request: HostRequest,
  { isLastHost, attempt }: { isLastHost: boolean; attempt: number },
): Promise<HostAnswer | undefined> {
  try {
    return await sendToHost(ctx, host, request);
  } catch (error) {
    // A connection that was kept open may have been closed just now by the other side.
    const isStale = faultOf(error) === "broken" && attempt === 1;
    const isWorthIt = isStale || (isLastHost && isTransient(error));
    if (!isWorthIt || attempt === attemptsMax) throw error;
    ctx.logger.debug("transient transport error, retrying", { error, attempt });
    await pause(ctx, transportPauseMs);
    return undefined;
  }
}

async function learn(
  ctx: Context,
  host: RegistryHost,
  response: HttpResponse,
  refused: readonly Unauthorized[],
): Promise<boolean> {
  try {
    return await host.authorizer.learn(ctx, refused);
  } catch (error) {
    await response.discard();
    throw error;
  }
}

/** False when it would take too long. */
async function waitForTurn(
  ctx: Context,
  response: HttpResponse,
  { attempt, isLastHost }: { attempt: number; isLastHost: boolean },
): Promise<boolean> {
  const asked = parseRetryAfter(response.header("retry-after"), Date.now());
  const waitMs = asked ?? busyPauseMs * 2 ** (attempt - 1);
  if (waitMs > (isLastHost ? busyPauseMsMax : busyPauseMsMaxElsewhere)) return false;
  ctx.logger.debug("registry is busy, waiting", { status: response.status, waitMs });
  await pause(ctx, waitMs);
  return true;
}

function isManifest(url: URL): boolean {
  return url.pathname.includes("/manifests/");
}
