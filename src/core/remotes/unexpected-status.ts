import { type HttpResponse, readBody } from "#core/remotes/http-client.ts";
import { sanitizeUrl } from "#core/remotes/sanitize-url.ts";
import { CodedError, type ErrorCode } from "#pkg/errors.ts";
import { parseRetryAfter } from "#pkg/retry.ts";

const bodyBytesMax = 64_000;
const messageLengthMax = 1_000;

const codes: Readonly<Record<number, ErrorCode>> = {
  401: "unauthenticated",
  403: "permission-denied",
  404: "not-found",
  408: "unavailable",
  416: "out-of-range",
  429: "resource-exhausted",
  500: "unavailable",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

export function statusText(status: number): string {
  // Not imported: to look at this module's exports loads all of `fetch`, which the daemon's start would wait for.
  const { STATUS_CODES } = process.getBuiltinModule("node:http");
  return `${status} ${STATUS_CODES[status] ?? ""}`.trim();
}

/** An answer that was not expected, as an error; the body is used up. */
export async function unexpectedStatus(
  method: string,
  response: HttpResponse,
): Promise<CodedError> {
  const body = await readErrorBody(response);
  return statusError(method, response, body);
}

/** The same with a body that came with another answer: HEAD has none. */
export function statusError(method: string, response: HttpResponse, body: string): CodedError {
  const { status, url } = response;
  const parts = [
    `unexpected status from ${method} request to ${sanitizeUrl(url)}: ${statusText(status)}`,
    ...registryErrors(body),
  ];
  if (status === 400 && body.includes("HTTP request to an HTTPS server")) {
    parts.push(`the server wants TLS (say "https://${url.host}" in its hosts.toml)`);
  }
  const waitMs = parseRetryAfter(response.header("retry-after"), Date.now());
  if (status === 429) {
    parts.push(
      waitMs === undefined
        ? "rate limited: try again later, or log in"
        : `rate limited: try again in ${Math.ceil(waitMs / 1000)} s`,
    );
  }
  return new CodedError(codes[status] ?? "unknown", parts.join(": "));
}

export async function readErrorBody(response: HttpResponse): Promise<string> {
  try {
    return (await readBody(response, bodyBytesMax))?.toString("utf8") ?? "";
  } catch {
    return ""; // -- the status is the error; its explanation broke off
  }
}

/** The `errors` of the distribution specification: `denied: requested access is denied`. */
function registryErrors(body: string): readonly string[] {
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch {
    return []; // -- a proxy's page, or nothing
  }
  const errors = field(document, "errors");
  if (!Array.isArray(errors)) return [];
  return errors.slice(0, 4).flatMap((error: unknown) => {
    const code = text(field(error, "code")).toLowerCase().replaceAll("_", " ");
    const message = text(field(error, "message"));
    const detail = field(error, "detail");
    const words = [code, message, typeof detail === "string" ? detail : ""];
    const shown = words.filter((word) => word !== "").join(": ");
    return shown === "" ? [] : [shown.slice(0, messageLengthMax)];
  });
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.getOwnPropertyDescriptor(value, name)?.value;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
