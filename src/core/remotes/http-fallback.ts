import type { HttpClient } from "#core/remotes/http-client.ts";
import { faultOf } from "#core/remotes/transport-error.ts";

/**
 * For hosts of which it is not known whether they speak TLS: https first, and http from then on
 * when it turns out that they do not.
 *
 * The failure comes before anything of the request was sent, credentials included.
 */
export function withHttpFallback(client: HttpClient): HttpClient {
  const plainHosts = new Set<string>();
  return {
    async send(ctx, request) {
      const { url } = request;
      if (url.protocol !== "https:") return client.send(ctx, request);
      if (!plainHosts.has(url.host)) {
        try {
          return await client.send(ctx, request);
        } catch (error) {
          if (!isAnswerOfPlainHttp(error, url)) throw error;
          ctx.logger.debug("registry has no TLS, using http", { host: url.host });
          plainHosts.add(url.host);
        }
      }
      const plain = new URL(url);
      plain.protocol = "http:";
      return client.send(ctx, { ...request, url: plain });
    },
  };
}

function isAnswerOfPlainHttp(error: unknown, url: URL): boolean {
  const fault = faultOf(error);
  if (fault === "not-tls" || fault === "tls-timeout") return true;
  // Without a port, http is at another one: nobody may be listening at 443.
  return url.port === "" && (fault === "dial" || fault === "dial-timeout");
}
