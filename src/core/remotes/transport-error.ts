import { DialError } from "#core/remotes/dial.ts";
import { sanitizeUrl } from "#core/remotes/sanitize-url.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";

/** What went wrong below HTTP. */
export type TransportFault =
  | "lookup"
  | "dial"
  | "dial-timeout"
  | "tls"
  | "tls-timeout"
  /** The server's first bytes were not TLS. */
  | "not-tls"
  | "proxy"
  /** The connection ended before its time. */
  | "broken"
  /** No answer, or no more bytes of one, for too long. */
  | "stalled"
  | "other";

class TransportFailure extends Error {
  readonly fault: TransportFault;

  constructor(fault: TransportFault, message: string, cause: unknown) {
    super(message, { cause });
    this.fault = fault;
  }
}

/** What went wrong below HTTP, for errors that came from an `HttpClient`. */
export function faultOf(error: unknown): TransportFault | undefined {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof TransportFailure) return e.fault;
  }
  return undefined;
}

/** Whether the same request may well succeed when sent again. */
export function isTransient(error: unknown): boolean {
  const fault = faultOf(error);
  return ["dial-timeout", "tls-timeout", "broken", "stalled"].includes(fault ?? "");
}

export interface FailedRequest {
  readonly method: string;
  readonly url: URL;
  readonly proxy: URL | undefined;
}

/** Go's words, which people search for, and what may mend it. */
export function transportError(error: unknown, request: FailedRequest): CodedError {
  const { method, url, proxy } = request;
  const failure = explain(error, url, proxy);
  const verb = method.slice(0, 1) + method.slice(1).toLowerCase();
  const place = `${verb} ${JSON.stringify(sanitizeUrl(url))}`;
  return new CodedError("unavailable", `failed to do request: ${place}: ${failure.message}`, {
    cause: failure,
  });
}

/** For a body that ended in an error. */
export function bodyError(error: unknown, url: URL): CodedError {
  const failure = explain(error, url, undefined);
  return new CodedError("unavailable", `read body of ${sanitizeUrl(url)}: ${failure.message}`, {
    cause: failure,
  });
}

function explain(error: unknown, url: URL, proxy: URL | undefined): TransportFailure {
  const dialed = dialErrorOf(error);
  if (dialed) return explainDial(dialed, url, proxy);
  const code = codeOf(error);
  // TLS 1.3 refuses a client after the handshake: in place of the answer.
  if (/^ERR_SSL_.*ALERT/.test(code)) return refusedClient(code, url, error);
  switch (code) {
    case "UND_ERR_HEADERS_TIMEOUT":
      return new TransportFailure("stalled", "timeout awaiting response headers", error);
    case "UND_ERR_BODY_TIMEOUT":
      return new TransportFailure("stalled", "no data for too long", error);
    case "UND_ERR_SOCKET":
    case "UND_ERR_RES_CONTENT_LENGTH_MISMATCH":
    case "ECONNRESET":
    case "EPIPE":
    case "HPE_INVALID_EOF_STATE":
      return new TransportFailure("broken", `unexpected EOF (${messageOf(error)})`, error);
    case "ETIMEDOUT":
      return new TransportFailure("stalled", "i/o timeout", error);
    default:
      return new TransportFailure("other", messageOf(error), error);
  }
}

function refusedClient(code: string, url: URL, error: unknown): TransportFailure {
  const alert = code
    .replace(/^.*ALERT_/, "")
    .toLowerCase()
    .replaceAll("_", " ");
  const hint = `name a client certificate as "client" in the hosts.toml of ${url.host}`;
  const isAboutIt = /certificate|unknown ca|handshake failure/.test(alert);
  return new TransportFailure(
    "tls",
    `remote error: tls: ${alert}${isAboutIt ? ` (${hint})` : ""}`,
    error,
  );
}

function dialErrorOf(error: unknown): DialError | undefined {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof DialError) return e;
  }
  return undefined;
}

function codeOf(error: unknown): string {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ("code" in e && typeof e.code === "string") return e.code;
  }
  return "";
}

function explainDial(error: DialError, url: URL, proxy: URL | undefined): TransportFailure {
  if (error.stage === "tls") return explainTls(error, url);
  const { fault, words } = explainConnection(error, (proxy ?? url).hostname);
  if (proxy === undefined) return new TransportFailure(fault, words, error);
  const name = `${proxy.protocol}//${proxy.host}`;
  const refused = /^HTTP_(\d+)$/.exec(error.code)?.[1];
  const hint =
    refused === "407"
      ? "it wants a user and a password in its URL"
      : "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY";
  const what = refused === undefined ? words : `it refused: ${error.message}`;
  return new TransportFailure("proxy", `proxyconnect ${name}: ${what} (${hint})`, error);
}

function explainConnection(
  error: DialError,
  hostname: string,
): { fault: TransportFault; words: string } {
  switch (error.code) {
    case "ENOTFOUND":
      return { fault: "lookup", words: `dial tcp: lookup ${hostname}: no such host` };
    case "EAI_AGAIN":
      return {
        fault: "lookup",
        words: `dial tcp: lookup ${hostname}: temporary failure in name resolution (check DNS)`,
      };
    case "ECONNREFUSED":
      return { fault: "dial", words: `${error.message}: connect: connection refused` };
    case "EHOSTUNREACH":
      return { fault: "dial", words: `${error.message}: connect: no route to host` };
    case "ENETUNREACH":
      return { fault: "dial", words: `${error.message}: connect: network is unreachable` };
    case "ETIMEDOUT":
      return { fault: "dial-timeout", words: `${error.message}: i/o timeout` };
    case "ECONNRESET":
      return { fault: "broken", words: `${error.message}: connection reset by peer` };
    default:
      return { fault: "dial", words: `${error.message}: ${messageOf(error.cause)}` };
  }
}

const verify = "tls: failed to verify certificate: x509:";

function explainTls(error: DialError, url: URL): TransportFailure {
  if (/^ERR_SSL_.*ALERT/.test(error.code)) return refusedClient(error.code, url, error);
  const of = (fault: TransportFault, words: string): TransportFailure =>
    new TransportFailure(fault, words, error);
  switch (error.code) {
    case "ETIMEDOUT":
      return of("tls-timeout", "net/http: TLS handshake timeout");
    case "ECONNRESET":
      return of("broken", `TLS handshake: connection closed by ${url.host}`);
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
    case "EPROTO":
      return of(
        "not-tls",
        `http: server gave HTTP response to HTTPS client (for a registry without TLS say ` +
          `"http://${url.host}" in its hosts.toml)`,
      );
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      return of(
        "tls",
        `${verify} certificate signed by unknown authority (name the CA's file as "ca" in the ` +
          `hosts.toml of ${url.host})`,
      );
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return of("tls", `${verify} ${messageOf(error.cause)}`);
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return of("tls", `${verify} certificate has expired or is not yet valid`);
    default:
      return of("tls", `tls: ${messageOf(error.cause ?? error)}`.trim());
  }
}
