import { BlockList, isIP, isIPv6 } from "node:net";
import { isLoopbackName } from "#core/remotes/localhost.ts";
import { CodedError } from "#pkg/errors.ts";

/** Which proxy a URL is asked through; undefined for none. Throws `unavailable` for one that cannot be used. */
export type ProxyFor = (url: URL) => URL | undefined;

export const noProxy: ProxyFor = () => undefined;

/**
 * The rules of Go's programs: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their lower-case names.
 *
 * Loopback addresses never go through a proxy. A value that cannot be used fails the requests it is meant for, and
 * those alone, naming the variable and not its value: proxies' URLs have passwords.
 */
export function proxyFromEnvironment(env: Readonly<Record<string, string | undefined>>): ProxyFor {
  // A CGI program's HTTP_PROXY is a header of its client's: Go ignores it there, and so do we.
  const http = env["REQUEST_METHOD"] === undefined ? variable(env, "HTTP_PROXY") : undefined;
  const proxies: Readonly<Record<string, URL | CodedError | undefined>> = {
    "http:": parseProxy("HTTP_PROXY", http),
    "https:": parseProxy("HTTPS_PROXY", variable(env, "HTTPS_PROXY")),
  };
  const isExcepted = parseExceptions(variable(env, "NO_PROXY") ?? "");
  return (url) => {
    const proxy = proxies[url.protocol];
    if (proxy === undefined || isExcepted(url)) return undefined;
    if (proxy instanceof CodedError) throw proxy;
    return proxy;
  };
}

function variable(
  env: Readonly<Record<string, string | undefined>>,
  name: string,
): string | undefined {
  return env[name] || env[name.toLowerCase()] || undefined;
}

function parseProxy(name: string, value: string | undefined): URL | CodedError | undefined {
  if (value === undefined) return undefined;
  const text = value.includes("://") ? value : `http://${value}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && ["http:", "https:"].includes(url.protocol) && url.hostname !== "") return url;
  return new CodedError(
    "unavailable",
    `${name} is no URL of an http or https proxy (HOST:PORT, http://HOST:PORT)`,
  );
}

type Exception = (host: string, port: string) => boolean;

function parseExceptions(list: string): (url: URL) => boolean {
  const exceptions = list
    .split(",")
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== "")
    .map(parseException);
  return (url) => {
    const host = url.hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
    const port = url.port || (url.protocol === "https:" ? "443" : "80");
    return isLoopbackName(host) || exceptions.some((matches) => matches(host, port));
  };
}

/** `*`, an address, a network, or a domain; a domain is with those below it, unless it begins with `.`. */
function parseException(entry: string): Exception {
  if (entry === "*") return () => true;
  const network = /^(.+)\/(\d{1,3})$/.exec(entry);
  if (network) return networkException(network[1] ?? "", Number(network[2]));
  if (isIP(entry) !== 0) return (host) => host === entry;
  const [, name = entry, port = ""] = /^(.*?)(?::(\d+))?$/.exec(entry) ?? [];
  const bare = name.replace(/^\*(?=\.)/, "").replace(/^\[|\]$/g, "");
  const domain = bare.replace(/^\./, "");
  const hasSelf = !bare.startsWith(".");
  return (host, hostPort) =>
    (port === "" || port === hostPort) &&
    ((hasSelf && host === domain) || (isIP(domain) === 0 && host.endsWith(`.${domain}`)));
}

function networkException(address: string, prefix: number): Exception {
  const family = isIPv6(address) ? "ipv6" : "ipv4";
  const bits = family === "ipv6" ? 128 : 32;
  if (isIP(address) === 0 || prefix > bits) return () => false;
  const list = new BlockList();
  list.addSubnet(address, prefix, family);
  return (host) => isIP(host) !== 0 && list.check(host, isIPv6(host) ? "ipv6" : "ipv4");
}
