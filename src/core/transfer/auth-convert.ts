import {
  AuthRequestSchema,
  AuthResponseSchema,
  AuthType,
} from "#api/types/transfer/registry_pb.ts";
import {
  type Credentials,
  type CredentialSource,
  credentialsFrom,
} from "#core/remotes/credentials.ts";
import { fromAny, toAny } from "#core/streaming/convert.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { unavailable, wrap } from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";

/** Somebody may have to type them. */
const answerTimeoutMs = 5 * 60_000;

/**
 * Asks the client at the other end of a stream, one question at a time: answers do not say what they are for. Hence
 * nothing more is asked after a question that nobody waited for: its late answer would go to the wrong host.
 */
export function streamCredentials(stream: Stream, reference: string): CredentialSource {
  const turns = new KeyedMutex();
  let unanswered: string | undefined;
  const ask = async (ctx: Context, host: string): Promise<Credentials | undefined> => {
    if (unanswered !== undefined) {
      throw unavailable(`its answer for ${unanswered} was not waited for`);
    }
    await stream.send(ctx, toAny(AuthRequestSchema, { host, reference }));
    unanswered = host;
    const answer = await stream.receive(ctx);
    unanswered = undefined;
    if (!answer) throw unavailable("the client answers no more");
    return credentialsOf(answer);
  };
  return credentialsFrom("the client", async (ctx, host) => {
    const bounded = ctx.withTimeout(answerTimeoutMs);
    try {
      using _turn = await turns.acquire("", bounded.signal);
      return await ask(bounded, host);
    } catch (error) {
      throw wrap(`ask the client for credentials of ${host}`, error);
    }
  });
}

export function credentialsOf(answer: Any): Credentials | undefined {
  const { authType, username, secret } = fromAny(answer, AuthResponseSchema);
  switch (authType) {
    case AuthType.CREDENTIALS:
      return username === "" && secret === "" ? undefined : { username, secret };
    case AuthType.REFRESH:
      return secret === "" ? undefined : { username: "", secret };
    case AuthType.HEADER:
      return secret === "" ? undefined : { username: "", secret: "", header: secret };
    default:
      return undefined;
  }
}

/**
 * Answers the questions that come on a stream, until it ends. For what is not known here the daemon's own credentials
 * are next.
 */
export async function answerQuestions(
  ctx: Context,
  stream: Stream,
  source: CredentialSource,
): Promise<void> {
  for (;;) {
    const question = await stream.receive(ctx);
    if (!question) return;
    const { host } = fromAny(question, AuthRequestSchema);
    const credentials = await source.get(ctx, host);
    await stream.send(ctx, answerOf(credentials));
  }
}

function answerOf(credentials: Credentials | undefined): Any {
  if (!credentials) return toAny(AuthResponseSchema, { authType: AuthType.NONE });
  const { username, secret, header } = credentials;
  if (header !== undefined) {
    return toAny(AuthResponseSchema, { authType: AuthType.HEADER, secret: header });
  }
  const authType = username === "" ? AuthType.REFRESH : AuthType.CREDENTIALS;
  return toAny(AuthResponseSchema, { authType, username, secret });
}
