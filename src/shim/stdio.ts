import { CodedError } from "#pkg/errors.ts";

/** Where a process's streams go: paths of FIFOs or URIs; an empty one is not connected. */
export interface Stdio {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

export type OutputTarget =
  | { readonly kind: "none" }
  | { readonly kind: "path" }
  | { readonly kind: "file"; readonly path: string }
  | {
      readonly kind: "binary";
      readonly path: string;
      readonly args: readonly string[];
      /** `binary-v2`: closing the ready descriptor is not enough, a byte must come. */
      readonly readiness: "close" | "byte";
    };

/** What the scheme of `stdout` asks for. Throws in upstream's words for an unknown one. */
export function outputTarget(stdio: Stdio): OutputTarget {
  const { stdin, stdout, stderr } = stdio;
  if (stdin === "" && stdout === "" && stderr === "") return { kind: "none" };
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(stdout)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
    case "fifo":
      return { kind: "path" };
    case "file":
      return { kind: "file", path: decodeURIComponent(parseUri(stdout).pathname) };
    case "binary":
    case "binary-v2":
      return binaryTarget(stdout, scheme);
    default:
      throw new CodedError("unknown", `unknown STDIO scheme ${scheme}`);
  }
}

function binaryTarget(uri: string, scheme: "binary" | "binary-v2"): OutputTarget {
  const url = parseUri(uri);
  const args: string[] = [];
  for (const key of new Set(url.searchParams.keys())) {
    args.push(key);
    const value = url.searchParams.get(key);
    if (value !== null) args.push(value);
  }
  return {
    kind: "binary",
    path: decodeURIComponent(url.pathname),
    args,
    readiness: scheme === "binary" ? "close" : "byte",
  };
}

function parseUri(text: string): URL {
  const url = URL.parse(text);
  if (url === null) {
    throw new CodedError("unknown", `unable to parse stdout uri: ${JSON.stringify(text)}`);
  }
  return url;
}
