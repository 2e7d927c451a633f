import * as v from "valibot";
import { type HttpResponse, readBody } from "#core/remotes/http-client.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { pullScope, type Repository } from "#core/remotes/repository.ts";
import { resolveReference } from "#core/remotes/resolve.ts";
import { unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, notFound, notImplemented } from "#pkg/errors.ts";

const pageSize = 1_000;
const pageBytesMax = 16 << 20;
const pagesMax = 10_000;

export async function* listTags(ctx: Context, repository: Repository): AsyncIterable<string> {
  const { locator, repository: name } = repository.reference;
  const [host] = repository.hosts("resolve", ["pull", "resolve"]);
  if (!host) return;
  const url = repository.url(host, ["tags", "list"], [["n", String(pageSize)]]);
  const scopes = [pullScope(name)];
  yield* pages(ctx, { repository, host, url, scopes, field: "tags", what: locator });
}

export async function* listRepositories(ctx: Context, registry: Repository): AsyncIterable<string> {
  const { locator } = registry.reference;
  const [host] = registry.hosts("resolve", ["pull", "resolve"]);
  if (!host) return;
  const url = registry.url(host, ["_catalog"], [["n", String(pageSize)]]);
  const scopes = ["registry:catalog:*"];
  const what = `catalog of ${locator}`;
  yield* pages(ctx, { repository: registry, host, url, scopes, field: "repositories", what });
}

interface Listing {
  readonly repository: Repository;
  readonly host: RegistryHost;
  readonly url: URL;
  readonly scopes: readonly string[];
  readonly field: "tags" | "repositories";
  readonly what: string;
}

async function* pages(ctx: Context, listing: Listing): AsyncIterable<string> {
  const { repository, host, scopes, field, what } = listing;
  let { url } = listing;
  for (let page = 0; page < pagesMax; page++) {
    const request = { method: "GET", url, scopes };
    const { response, method } = await repository.askUrl(ctx, host, request, { isLastHost: true });
    if (response.status === 404) {
      await response.discard();
      throw notFound(what);
    }
    if (response.status >= 300) throw await unexpectedStatus(method, response);
    const next = nextPage(response);
    yield* await parsePage(response, field, what);
    if (next === undefined) return;
    url = next;
  }
  throw new CodedError("resource-exhausted", `${what}: more than ${pagesMax} pages`);
}

const names = v.optional(v.nullable(v.array(v.string())));
const pageSchema = v.object({ tags: names, repositories: names });

async function parsePage(
  response: HttpResponse,
  field: "tags" | "repositories",
  what: string,
): Promise<readonly string[]> {
  const body = await readBody(response, pageBytesMax);
  try {
    return v.parse(pageSchema, JSON.parse(body?.toString("utf8") ?? ""))[field] ?? [];
  } catch (cause) {
    throw new CodedError("unavailable", `${what}: the answer is no list`, { cause });
  }
}

/** `Link: </v2/_catalog?last=x&n=1000>; rel="next"`, of the same server only. */
function nextPage(response: HttpResponse): URL | undefined {
  const link = /<([^>]*)>\s*;\s*rel="?next"?/i.exec(response.header("link") ?? "")?.[1];
  if (link === undefined || !URL.canParse(link, response.url)) return undefined;
  const next = new URL(link, response.url);
  return next.origin === response.url.origin && next.href !== response.url.href ? next : undefined;
}

/** A tag is deleted where the registry does that, and otherwise the manifest that it names. */
export async function removeManifest(
  ctx: Context,
  repository: Repository,
  ref: string,
): Promise<void> {
  const { repository: name, tag, digest } = repository.reference;
  const [host] = repository.hosts("push", ["push"]);
  if (!host) return;
  const remove = (target: string): Promise<HostAnswer> =>
    repository.ask(
      ctx,
      host,
      {
        method: "DELETE",
        path: ["manifests", target],
        scopes: [`repository:${name}:delete,pull,push`],
      },
      { isLastHost: true },
    );
  let answer = await remove(digest ?? tag);
  if (digest === undefined && [400, 405].includes(answer.response.status)) {
    await answer.response.discard();
    const { descriptor } = await resolveReference(ctx, repository, ref, undefined);
    answer = await remove(descriptor.digest);
  }
  const { response, method } = answer;
  if (response.status === 404) {
    await response.discard();
    throw notFound(ref);
  }
  if (response.status === 405) {
    await response.discard();
    throw notImplemented(`${host.host} does not delete manifests`);
  }
  if (response.status >= 300) throw await unexpectedStatus(method, response);
  await response.discard();
}
