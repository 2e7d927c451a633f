import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";
import { startClient } from "#test/integration/remotes/client.ts";
import { startFaultRegistry } from "#test/support/registry/fault-registry.ts";

interface Proxy extends AsyncDisposable {
  readonly url: string;
  /** `METHOD TARGET`, and what it was told about who asks. */
  readonly requests: { readonly line: string; readonly authorization: string | undefined }[];
}

/** Passes everything to one server, whatever name it is asked for. */
async function startProxy(target: string, refuse?: number): Promise<Proxy> {
  const requests: Proxy["requests"] = [];
  const [host = "", port] = target.split(":");
  const pass = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = "", url = "" } = request;
    const { pathname, search } = new URL(url);
    const answer = await fetch(`http://${target}${pathname}${search}`, { method });
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(Buffer.from(await answer.arrayBuffer()));
  };
  const server: Server = createServer((request, response) => {
    const authorization = request.headers["proxy-authorization"];
    requests.push({ line: `${request.method} ${request.url}`, authorization });
    pass(request, response).catch((error: Error) => response.destroy(error));
  });
  server.on("connect", (request, socket) => {
    const authorization = request.headers["proxy-authorization"];
    requests.push({ line: `CONNECT ${request.url}`, authorization });
    if (refuse !== undefined) {
      socket.end(`HTTP/1.1 ${refuse} No\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const upstream = connect({ host, port: Number(port) });
    socket.on("error", () => upstream.destroy());
    upstream.on("error", () => socket.destroy());
    socket.write("HTTP/1.1 200 Connected\r\n\r\n");
    socket.pipe(upstream).pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function through(proxy: string, scheme: "http" | "https", noProxy = "") {
  const env = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy, NO_PROXY: noProxy };
  return startClient({
    defaultScheme: scheme,
    transports: { proxyFor: proxyFromEnvironment(env) },
  });
}

test("http goes through the proxy by its whole URL, with the proxy's own user", async () => {
  await using registry = await startFaultRegistry();
  const { digest } = registry.addManifest("a/b", { layers: [] }, "t");
  await using proxy = await startProxy(registry.host);
  const url = proxy.url.replace("//", "//me:s3cret@");
  await using client = through(url, "http", "direct.invalid");
  const { descriptor } = await client.resolver.resolve(client.ctx, "r.invalid:5000/a/b:t");
  assert.equal(descriptor.digest, digest);
  const [request] = proxy.requests;
  assert.equal(request?.line, "HEAD http://r.invalid:5000/v2/a/b/manifests/t");
  assert.equal(request?.authorization, `Basic ${Buffer.from("me:s3cret").toString("base64")}`);
  assert.equal(registry.requests[0]?.headers["proxy-authorization"], undefined);
  await assert.rejects(client.resolver.resolve(client.ctx, "direct.invalid/a/b:t"), {
    message: /lookup direct\.invalid/,
  });
  assert.equal(proxy.requests.length, 1);
});

test("https goes through a tunnel, and a proxy that refuses is named without its user", async () => {
  await using registry = await startFaultRegistry();
  await using proxy = await startProxy(registry.host);
  await using client = through(proxy.url.replace("//", "//me:s3cret@"), "https");
  // What is at the end of the tunnel has no TLS: the tunnel itself worked.
  await assert.rejects(client.resolver.resolve(client.ctx, "r.invalid/a/b:t"), {
    message: /http: server gave HTTP response to HTTPS client/,
  });
  assert.equal(proxy.requests[0]?.line, "CONNECT r.invalid:443");
  await assert.rejects(client.resolver.resolve(client.ctx, "[2001:db8::1]:5000/a/b:t"), {
    message: /http: server gave HTTP response to HTTPS client/,
  });
  assert.equal(proxy.requests[1]?.line, "CONNECT [2001:db8::1]:5000");
  for (const [code, words] of [
    [403, /proxyconnect http:\/\/127.*: it refused: CONNECT r\.invalid:443: 403 No \(check HTTP_P/],
    [407, /407 No \(it wants a user and a password in its URL\)$/],
  ] as const) {
    await using refusing = await startProxy(registry.host, code);
    await using other = through(refusing.url.replace("//", "//me:s3cret@"), "https");
    await assert.rejects(other.resolver.resolve(other.ctx, "r.invalid/a/b:t"), (error) => {
      assert.ok(error instanceof Error && !error.message.includes("s3cret"));
      assert.match(error.message, words);
      return true;
    });
  }
  await using none = through("http://127.0.0.1:1", "https");
  await assert.rejects(none.resolver.resolve(none.ctx, "r.invalid/a/b:t"), {
    code: "unavailable",
    message: /proxyconnect http:\/\/127\.0\.0\.1:1: .*connection refused/,
  });
});
