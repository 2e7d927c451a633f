import type { HttpClient, HttpRequest, HttpResponse } from "#core/remotes/http-client.ts";
import { sanitizeUrl } from "#core/remotes/sanitize-url.ts";
import type { ClientSource } from "#core/remotes/transports.ts";
import { statusText } from "#core/remotes/unexpected-status.ts";

/** Fields whose values may be shown to people: any other may be somebody's secret. */
const shownGroups = ["accept", "content", "docker", "oci", "ratelimit"];
const shownFields =
  "date etag host link range retry-after server user-agent warning www-authenticate".split(" ");

/**
 * The same clients, telling each request and answer: first lines and fields as HTTP has them, no bodies, and no value
 * that may be secret.
 */
export function dumpingClients(source: ClientSource, write: (text: string) => void): ClientSource {
  // Who keeps hosts open knows them by their client.
  const wrapped = new WeakMap<HttpClient, HttpClient>();
  return {
    async client(settings) {
      const client = await source.client(settings);
      const known = wrapped.get(client) ?? dumping(client, write);
      wrapped.set(client, known);
      return known;
    },
  };
}

function dumping(client: HttpClient, write: (text: string) => void): HttpClient {
  return {
    async send(ctx, request) {
      write(requestText(request));
      const response = await client.send(ctx, request);
      write(responseText(response));
      return response;
    },
  };
}

function requestText({ method, url, headers, body }: HttpRequest): string {
  const shown = new URL(sanitizeUrl(url));
  const length = body === undefined ? [] : [["content-length", [String(body.sizeBytes)]] as const];
  const fields = [["host", [url.host]] as const, ...Object.entries(headers), ...length];
  return `${method} ${shown.pathname}${shown.search} HTTP/1.1\r\n${fieldLines(fields)}\r\n`;
}

function responseText(response: HttpResponse): string {
  const names = response.headerNames();
  const fields = names.map((name) => [name, response.headerLines(name)] as const);
  return `HTTP/1.1 ${statusText(response.status)}\r\n${fieldLines(fields)}\r\n`;
}

function fieldLines(fields: readonly (readonly [string, readonly string[]])[]): string {
  return fields
    .flatMap(([name, values]) => values.map((value) => `${name}: ${shownValue(name, value)}\r\n`))
    .join("");
}

function shownValue(name: string, value: string): string {
  if (name === "location" && URL.canParse(value)) return sanitizeUrl(new URL(value));
  const isShown = shownFields.includes(name) || shownGroups.includes(name.split("-", 1)[0] ?? "");
  return isShown ? value : "REDACTED";
}
