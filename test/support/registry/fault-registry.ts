import { createHash, randomUUID } from "node:crypto";
import type { ServerOptions } from "node:https";
import { digestOf } from "#test/support/images.ts";
import {
  type Answer,
  type Exchange,
  type FaultServer,
  startFaultServer,
  status,
} from "#test/support/registry/fault-server.ts";

export interface FaultRegistry extends FaultServer {
  /** By digest; of every repository. */
  readonly blobs: Map<string, Buffer>;
  /** `REPOSITORY TAG-OR-DIGEST` to a manifest. */
  readonly manifests: Map<string, { readonly type: string; readonly bytes: Buffer }>;
  /** Unfinished uploads by id. */
  readonly uploads: Map<string, Buffer>;
  addBlob(bytes: Uint8Array): string;
  /** Under its digest, and the tag where one is given. */
  addManifest(repository: string, document: object, tag?: string): { digest: string; size: number };
}

export const ociManifest = "application/vnd.oci.image.manifest.v1+json";

/**
 * A registry in memory that keeps to the distribution specification where no rule says otherwise:
 * reading with ranges, uploads in one piece and in chunks, mounts, tags, catalogue, deletion. It has
 * no referrers API.
 */
export async function startFaultRegistry(
  options: { tls?: ServerOptions; address?: string; name?: string } = {},
): Promise<FaultRegistry> {
  const blobs = new Map<string, Buffer>();
  const manifests: FaultRegistry["manifests"] = new Map();
  const uploads = new Map<string, Buffer>();
  const state = { blobs, manifests, uploads };
  const server = await startFaultServer((exchange) => route(state, exchange), options);
  return Object.assign(server, {
    ...state,
    addBlob(bytes: Uint8Array) {
      const digest = digestOf(bytes);
      blobs.set(digest, Buffer.from(bytes));
      return digest;
    },
    addManifest(repository: string, document: object, tag?: string) {
      const bytes = Buffer.from(JSON.stringify(document));
      const digest = digestOf(bytes);
      const type = "mediaType" in document ? String(document.mediaType) : ociManifest;
      manifests.set(`${repository} ${digest}`, { type, bytes });
      if (tag !== undefined) manifests.set(`${repository} ${tag}`, { type, bytes });
      return { digest, size: bytes.length };
    },
  });
}

type State = Pick<FaultRegistry, "blobs" | "manifests" | "uploads">;

function route(state: State, exchange: Exchange): void | Promise<void> {
  const path = exchange.url.pathname;
  const manifest = /^\/v2\/(.+)\/manifests\/([^/]+)$/.exec(path);
  if (manifest) return serveManifest(state, exchange, manifest[1] ?? "", manifest[2] ?? "");
  const upload = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/.exec(path);
  if (upload) return serveUpload(state, exchange, upload[1] ?? "", upload[2] ?? "");
  const blob = /^\/v2\/.+\/blobs\/([^/]+)$/.exec(path)?.[1];
  if (blob !== undefined) {
    const bytes = state.blobs.get(blob);
    return bytes ? sendBytes(exchange, bytes) : unknown(exchange, "BLOB_UNKNOWN");
  }
  return unknown(exchange, "NAME_UNKNOWN");
}

const unknown = (exchange: Exchange, code: string): void | Promise<void> =>
  status(404, {}, JSON.stringify({ errors: [{ code, message: "unknown" }] }))(exchange);

async function serveManifest(
  { manifests }: State,
  exchange: Exchange,
  repository: string,
  reference: string,
): Promise<void> {
  const key = `${repository} ${reference}`;
  const { method } = exchange.request;
  if (method === "PUT") {
    const bytes = await exchange.body();
    const digest = digestOf(bytes);
    const type = exchange.request.headers["content-type"] ?? "";
    manifests.set(key, { type, bytes });
    manifests.set(`${repository} ${digest}`, { type, bytes });
    return status(201, { "docker-content-digest": digest })(exchange);
  }
  const found = manifests.get(key);
  if (!found) return unknown(exchange, "MANIFEST_UNKNOWN");
  if (method === "DELETE") {
    manifests.delete(key);
    return status(202)(exchange);
  }
  sendBytes(exchange, found.bytes, found.type);
}

async function serveUpload(
  state: State,
  exchange: Exchange,
  repository: string,
  id: string,
): Promise<void> {
  const { blobs, uploads } = state;
  const { method } = exchange.request;
  const at = (upload: string): Record<string, string> => ({
    location: `/v2/${repository}/blobs/uploads/${upload}?state=${randomUUID()}`,
    range: `0-${Math.max(0, (uploads.get(upload)?.length ?? 0) - 1)}`,
  });
  if (method === "POST") {
    exchange.request.resume();
    const mount = exchange.url.searchParams.get("mount");
    if (mount !== null && blobs.has(mount)) return status(201)(exchange);
    const upload = randomUUID();
    uploads.set(upload, Buffer.alloc(0));
    return status(202, at(upload))(exchange);
  }
  const held = uploads.get(id);
  if (!held) return unknown(exchange, "BLOB_UPLOAD_UNKNOWN");
  if (method === "GET") return status(204, at(id))(exchange);
  await keep(uploads, exchange, id);
  const bytes = uploads.get(id) ?? held;
  if (method === "PATCH") return status(202, at(id))(exchange);
  const digest = exchange.url.searchParams.get("digest") ?? "";
  if (digestOf(bytes) !== digest) {
    return status(400, {}, JSON.stringify({ errors: [{ code: "DIGEST_INVALID" }] }))(exchange);
  }
  uploads.delete(id);
  blobs.set(digest, bytes);
  return status(201, { "docker-content-digest": digest })(exchange);
}

/**
 * Adds what comes to an upload as it comes, so that what came before a break is kept. Breaks the
 * connection itself after `bytesMax`.
 */
export async function keep(
  uploads: Map<string, Buffer>,
  { request }: Exchange,
  id: string,
  bytesMax: number = Number.POSITIVE_INFINITY,
): Promise<void> {
  const start = /^(\d+)-/.exec(request.headers["content-range"] ?? "")?.[1];
  const held = uploads.get(id) ?? Buffer.alloc(0);
  if (start !== undefined && Number(start) !== held.length) throw new Error("wrong offset");
  for await (const chunk of request) {
    uploads.set(id, Buffer.concat([uploads.get(id) ?? held, chunk as Buffer])); // -- no encoding
    if ((uploads.get(id)?.length ?? 0) - held.length > bytesMax) request.socket.destroy();
  }
}

/** Bytes, or the range of them that is asked for. */
export function sendBytes(
  { request, response }: Exchange,
  bytes: Buffer,
  type = "application/octet-stream",
): void {
  request.resume();
  const [, from, to = ""] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const start = Number(from ?? 0);
  const end = to === "" ? bytes.length : Math.min(bytes.length, Number(to) + 1);
  if (from !== undefined && start >= bytes.length) {
    response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
    return;
  }
  const part = bytes.subarray(start, end);
  response.writeHead(from === undefined ? 200 : 206, {
    "content-type": type,
    "content-length": part.length,
    "docker-content-digest": `sha256:${createHash("sha256").update(bytes).digest("hex")}`,
    ...(from !== undefined && { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }),
  });
  response.end(request.method === "HEAD" ? undefined : part);
}

/** Serves a blob and breaks the connection after so many bytes of the answer. */
export function cutAfter(bytes: Buffer, count: number): Answer {
  return partly(bytes, count, ({ response }) => void response.destroy());
}

/** The same, but the connection stays, and nothing more comes. */
export function stallAfter(bytes: Buffer, count: number): Answer {
  return partly(bytes, count, () => undefined);
}

function partly(bytes: Buffer, count: number, then: Answer): Answer {
  return (exchange) => {
    const { request, response } = exchange;
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const isRange = request.headers.range !== undefined;
    response.writeHead(isRange ? 206 : 200, {
      "content-length": bytes.length - start,
      ...(isRange && { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
    });
    response.write(bytes.subarray(start, start + count), () => void then(exchange));
  };
}

/** All of it, whatever range is asked for. */
export function ignoreRange(bytes: Buffer): Answer {
  return ({ response }) => {
    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  };
}

/** A body without a declared size and without an end. */
export const endless: Answer = ({ response }) => {
  const chunk = Buffer.alloc(64 << 10);
  response.writeHead(200);
  const more = (): void => {
    while (!response.destroyed && response.write(chunk));
  };
  response.on("drain", more);
  more();
};
