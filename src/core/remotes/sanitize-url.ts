/** A URL for messages and logs: query values, which may be signatures, and passwords left out. */
export function sanitizeUrl(url: URL): string {
  const shown = new URL(url);
  if (shown.password !== "") shown.password = "xxxxx";
  for (const name of new Set(shown.searchParams.keys())) {
    // Which registry a mirror is asked on behalf of is no secret, and worth knowing.
    if (name !== "ns" && shown.searchParams.get(name) !== "") {
      shown.searchParams.set(name, "REDACTED");
    }
  }
  return shown.href;
}

/** A server as people may see it: who wrote a password into it did not mean it for clients and logs. */
export function withoutUser(server: string): string {
  return server.replace(/^([^/]*:\/\/)?.*@/s, "$1xxxxx@");
}
