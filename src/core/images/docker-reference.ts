import { type CodedError, invalidArgument } from "#pkg/errors.ts";

// What people type and `docker save` writes, with its defaults: host docker.io, `library/`, tag `latest`.

const component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const nameForm = new RegExp(`^${component}(?:/${component})*$`);
const label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const hostForm = new RegExp(`^(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const tagForm = /^\w[\w.-]{0,127}$/;
const digestForm = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const nameLengthMax = 255;

interface Named {
  readonly host: string;
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/**
 * `alpine` becomes `docker.io/library/alpine:latest`; a tag beside a digest is dropped.
 *
 * Throws `invalid-argument`.
 */
export function normalizeDockerReference(text: string): string {
  const { host, path, tag, digest } = parse(text);
  if (digest !== undefined) return `${host}/${path}@${digest}`;
  return `${host}/${path}:${tag ?? "latest"}`;
}

/** The way back, as short as `docker` shows it: `alpine:latest`. Throws `invalid-argument`. */
export function familiarDockerReference(text: string): string {
  const { host, path, tag, digest } = parse(text);
  const short = path.replace(/^library\/(?!.*\/)/, "");
  const name = host === "docker.io" ? short : `${host}/${path}`;
  const shownTag = tag === undefined && digest === undefined ? "latest" : tag;
  return `${name}${shownTag === undefined ? "" : `:${shownTag}`}${digest === undefined ? "" : `@${digest}`}`;
}

function parse(text: string): Named {
  if (/^[a-f0-9]{64}$/.test(text)) throw invalid(text, "cannot be 64 hexadecimal characters");
  const { host, rest } = splitHost(text);
  const at = rest.indexOf("@");
  const digest = at < 0 ? undefined : rest.slice(at + 1);
  const tagged = at < 0 ? rest : rest.slice(0, at);
  const colon = tagged.indexOf(":");
  const tag = colon < 0 ? undefined : tagged.slice(colon + 1);
  const path = colon < 0 ? tagged : tagged.slice(0, colon);
  if (path !== path.toLowerCase()) throw invalid(text, "repository name must be lowercase");
  if (!hostForm.test(host) || !nameForm.test(path)) throw invalid(text, "invalid reference format");
  if (tag !== undefined && !tagForm.test(tag)) throw invalid(text, "invalid tag");
  if (digest !== undefined && !digestForm.test(digest)) throw invalid(text, "invalid digest");
  if (path.length > nameLengthMax) {
    throw invalid(text, `repository name is longer than ${nameLengthMax} characters`);
  }
  return { host, path, tag, digest };
}

/** The part before the first slash is a host only if it cannot be a repository's. */
function splitHost(text: string): { host: string; rest: string } {
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  if (!isHost) return { host: "docker.io", rest: slash < 0 ? `library/${text}` : text };
  const rest = text.slice(slash + 1);
  const host = first === "index.docker.io" ? "docker.io" : first;
  const isOfficial = host === "docker.io" && !rest.includes("/");
  return { host, rest: isOfficial ? `library/${rest}` : rest };
}

function invalid(text: string, why: string): CodedError {
  return invalidArgument(`normalize image ref ${JSON.stringify(text.slice(0, 512))}: ${why}`);
}
