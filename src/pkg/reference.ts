import { isIPv6 } from "node:net";
import { CodedError } from "#pkg/errors.ts";

/**
 * The name of something at a registry: `docker.io/library/redis:7`, a URL without a scheme.
 *
 * Nothing is filled in: no default host, no `library/`, no `latest`. That is for the clients that
 * normalise what people type.
 */
export interface Reference {
  /** Host and path: `docker.io/library/redis`. */
  readonly locator: string;
  /** `7`, `7@sha256:..`, `@sha256:..` or empty. */
  readonly object: string;
  /** `docker.io`, with its port where it has one: what hosts are configured by. */
  readonly hostname: string;
  /** `library/redis`; empty where the locator is only a host. */
  readonly repository: string;
  /** What stands before the `@` of the object; empty where there is no tag. */
  readonly tag: string;
  /** What stands after the `@`; possibly a part of a digest, or nothing like one. */
  readonly digest: string | undefined;
}

/**
 * Throws `invalid-argument`: `invalid reference` for a scheme, a path that climbs, a malformed host
 * or escape, and `hostname required`.
 *
 * A query, a fragment and a user name are dropped, as upstream does.
 */
export function parseReference(text: string): Reference {
  const { authority, path } = splitUrl(text);
  const host = parseHost(text, authority.slice(authority.lastIndexOf("@") + 1));
  const decoded = decodePath(text, path);
  const cut = decoded.search(/[:@]/);
  const name = cut < 0 ? decoded : decoded.slice(0, cut);
  // A cleaned ".." would reach the host, and so another registry.
  if (name.split("/").includes("..")) throw invalid(text, 'path component ".."');
  const tail = cut < 0 ? "" : decoded.slice(cut);
  return makeReference(
    host,
    name
      .split("/")
      .filter((part) => part !== "" && part !== ".")
      .join("/"),
    tail.startsWith(":") ? tail.slice(1) : tail,
  );
}

/** `LOCATOR`, `LOCATOR:TAG`, `LOCATOR@DIGEST` or `LOCATOR:TAG@DIGEST`. */
export function formatReference({
  locator,
  object,
}: Pick<Reference, "locator" | "object">): string {
  if (object === "") return locator;
  return object.startsWith("@") ? `${locator}${object}` : `${locator}:${object}`;
}

function makeReference(hostname: string, repository: string, object: string): Reference {
  const at = object.indexOf("@");
  return {
    locator: repository === "" ? hostname : `${hostname}/${repository}`,
    object,
    hostname,
    repository,
    tag: at < 0 ? object : object.slice(0, at),
    digest: at < 0 ? undefined : object.slice(at + 1),
  };
}

function splitUrl(text: string): { authority: string; path: string } {
  if (text.includes("://")) throw invalid(text, "it has a scheme");
  // oxlint-disable-next-line eslint/no-control-regex -- they are what is looked for
  if (/[\0-\x1f\x7f]/.test(text)) throw invalid(text, "control character");
  const url = text.split("#", 1)[0]?.split("?", 1)[0] ?? "";
  const slash = url.indexOf("/");
  if (slash < 0) return { authority: url, path: "" };
  return { authority: url.slice(0, slash), path: url.slice(slash) };
}

// What DNS and people use, and what is safe as the name of a directory of host configuration.
const plainHost = /^([\w.~-]|[^\0-\x7f])+(?::\d*)?$/;
const bracketedHost = /^\[([^\]%]+)(?:%25[\w.~-]+)?\](?::\d*)?$/;

function parseHost(text: string, host: string): string {
  if (host === "") {
    throw new CodedError(
      "invalid-argument",
      `reference ${JSON.stringify(text)}: hostname required`,
    );
  }
  const address = bracketedHost.exec(host)?.[1];
  const isFine = address === undefined ? plainHost.test(host) : isIPv6(address);
  if (!isFine || /^\.\.?(?::|$)/.test(host)) throw invalid(text, `host ${JSON.stringify(host)}`);
  return host;
}

function decodePath(text: string, path: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch (cause) {
    throw invalid(text, "malformed percent-encoding", { cause });
  }
  // oxlint-disable-next-line eslint/no-control-regex -- they are what is looked for
  if (/[\0-\x1f\x7f]/.test(decoded)) throw invalid(text, "control character");
  return decoded;
}

function invalid(text: string, why: string, options?: ErrorOptions): CodedError {
  const message = `invalid reference ${JSON.stringify(text)}: ${why}`;
  return new CodedError("invalid-argument", message, options);
}
