import { CodedError } from "#pkg/errors.ts";

/**
 * The command line as Go's shims take it: `-name value`, `-name=value`, two dashes as good as one.
 */
export interface Flags {
  readonly namespace: string;
  readonly id: string;
  readonly address: string;
  readonly publishBinary: string;
  readonly bundle: string;
  readonly socketDir: string;
  readonly state: string;
  readonly shimCgroup: string;
  readonly debug: boolean;
  readonly version: boolean;
  readonly info: boolean;
  readonly action: string;
}

const valued = {
  namespace: "namespace",
  id: "id",
  address: "address",
  "publish-binary": "publishBinary",
  bundle: "bundle",
  "socket-dir": "socketDir",
  state: "state",
  "shim-cgroup": "shimCgroup",
} as const;

const switches = { debug: "debug", v: "version", version: "version", info: "info" } as const;

/** Throws for a flag that is not known and for one without its value, as Go's package says it. */
export function parseFlags(args: readonly string[]): Flags {
  const values: Record<string, string> = {};
  const on = new Set<string>();
  let rest = [...args];
  for (;;) {
    const [first, ...others] = rest;
    const match = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(first ?? "");
    const name = match?.[1];
    if (name === undefined) break;
    rest = others;
    if (Object.hasOwn(switches, name)) {
      const value = match?.[2] ?? "true";
      // -- just looked up
      if (value === "true" || value === "1") on.add(switches[name as keyof typeof switches]);
    } else if (Object.hasOwn(valued, name)) {
      const value = match?.[2] ?? rest.shift();
      if (value === undefined) throw usageError(`flag needs an argument: -${name}`);
      values[valued[name as keyof typeof valued]] = value; // -- just looked up
    } else {
      throw usageError(`flag provided but not defined: -${name}`);
    }
  }
  return {
    namespace: values["namespace"] ?? "",
    id: values["id"] ?? "",
    address: values["address"] ?? "",
    publishBinary: values["publishBinary"] ?? "",
    bundle: values["bundle"] ?? "",
    socketDir: values["socketDir"] ?? "",
    state: values["state"] ?? "",
    shimCgroup: values["shimCgroup"] ?? "",
    debug: on.has("debug"),
    version: on.has("version"),
    info: on.has("info"),
    action: rest[0] ?? "",
  };
}

function usageError(text: string): CodedError {
  return new CodedError("invalid-argument", text);
}
