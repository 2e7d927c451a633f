import { BlockList, isIP, isIPv6 } from "node:net";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Splits `host:port`, `[::1]:port`, `host`; the host without brackets, the port empty for none. */
export function splitHostPort(text: string): { host: string; port: string } {
  const [, bracketed, plain, port = ""] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(text) ?? [];
  return { host: bracketed ?? plain ?? text, port };
}

/** Whether a host of references is this machine by its name or address. */
export function isLocalhost(text: string): boolean {
  return isLoopbackName(splitHostPort(text).host);
}

export function isLoopbackName(host: string): boolean {
  if (host === "localhost") return true;
  return isIP(host) !== 0 && loopback.check(host, isIPv6(host) ? "ipv6" : "ipv4");
}
