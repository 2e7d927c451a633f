import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import assert from "node:assert/strict";
import { digestOf, type Image } from "#test/support/images.ts";

/** What a registry serves: an image under `repository:tag`. */
export interface Served {
  readonly repository: string;
  readonly tag: string;
  readonly image: Image;
}

export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:PORT`, the host part of references. */
  readonly host: string;
  /** One line for each request so far: `GET /v2/hello/manifests/latest 200`. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

export interface RegistryOptions {
  /** `USER:PASSWORD` that every request has to bring, by basic authentication; default: none. */
  readonly user?: string;
}

/** Serves images built in code on loopback: the reading half of the OCI distribution protocol, without TLS. */
export async function startRegistry(
  served: readonly Served[],
  { user }: RegistryOptions = {},
): Promise<Registry> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const isKnown = user === undefined || request.headers.authorization === `Basic ${btoa(user)}`;
    if (!isKnown) response.setHeader("www-authenticate", 'Basic realm="test"');
    const status = isKnown
      ? answer(served, request, response)
      : refuse(response, 401, "UNAUTHORIZED");
    requests.push(`${request.method} ${request.url} ${status}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  return { host: `127.0.0.1:${address.port}`, requests, close, [Symbol.asyncDispose]: close };
}

const route = /^\/v2\/(?<repository>[a-z0-9._/-]+)\/(?<kind>manifests|blobs)\/(?<reference>[^/]+)$/;

function answer(
  served: readonly Served[],
  request: IncomingMessage,
  response: ServerResponse,
): number {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return refuse(response, 405, "UNSUPPORTED");
  }
  const { pathname } = new URL(request.url ?? "/", "http://registry");
  if (pathname === "/v2/") return send(request, response, "application/json", Buffer.from("{}"));
  const groups = route.exec(pathname)?.groups;
  if (!groups) return refuse(response, 404, "NAME_UNKNOWN");
  const { repository, kind, reference } = groups;
  const here = served.filter((entry) => entry.repository === repository);
  const image = here.find(
    (entry) => entry.tag === reference || entry.image.blobs.has(reference ?? ""),
  )?.image;
  if (!image) return refuse(response, 404, kind === "blobs" ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN");
  const digest = image.blobs.has(reference ?? "") ? (reference ?? "") : image.target.digest;
  const bytes = image.blobs.get(digest) ?? Buffer.alloc(0);
  const mediaType = kind === "blobs" ? "application/octet-stream" : manifestType(bytes);
  return send(request, response, mediaType, bytes);
}

function manifestType(bytes: Uint8Array): string {
  const document: unknown = JSON.parse(Buffer.from(bytes).toString());
  assert.ok(typeof document === "object" && document !== null && "mediaType" in document);
  return String(document.mediaType);
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  mediaType: string,
  bytes: Uint8Array,
): number {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const body = bytes.subarray(from);
  const status = from > 0 ? 206 : 200;
  response.writeHead(status, {
    "content-type": mediaType,
    "content-length": body.length,
    "docker-content-digest": digestOf(bytes),
    "docker-distribution-api-version": "registry/2.0",
    ...(from > 0 && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
  });
  response.end(request.method === "HEAD" ? undefined : body);
  return status;
}

function refuse(response: ServerResponse, status: number, code: string): number {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ errors: [{ code, message: code.toLowerCase() }] }));
  return status;
}
