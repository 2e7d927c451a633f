import { posix } from "node:path";
import { parse, TomlError } from "smol-toml";
import { parseHeaderTable } from "#core/remotes/header-table.ts";
import type { HeaderFields } from "#core/remotes/http-client.ts";
import { allCapabilities, type HostCapability } from "#core/remotes/registry-host.ts";
import { withoutUser } from "#core/remotes/sanitize-url.ts";
import { CodedError } from "#pkg/errors.ts";
import { tryParseDuration } from "#pkg/duration.ts";

/** One host of a `hosts.toml`. What is undefined was not said there. */
export interface HostConfig {
  /** Undefined for the registry itself where `server` is not given. */
  readonly server: ConfiguredServer | undefined;
  readonly capabilities: readonly HostCapability[];
  readonly caFiles: readonly string[] | undefined;
  readonly clientPairs:
    | readonly { readonly cert: string; readonly key?: string | undefined }[]
    | undefined;
  readonly skipVerify: boolean | undefined;
  readonly dialTimeoutMs: number | undefined;
  readonly headers: HeaderFields;
}

export interface ConfiguredServer {
  readonly scheme: "https" | "http";
  readonly host: string;
  readonly path: string;
}

export interface HostsFile {
  /** In the order of the file; the registry itself, `server`, last. */
  readonly hosts: readonly HostConfig[];
  /** Keys that mean nothing, by their path in the file. */
  readonly unknownKeys: readonly string[];
}

const hostKeys: readonly string[] = [
  "capabilities",
  "ca",
  "client",
  "skip_verify",
  "header",
  "override_path",
  "dial_timeout",
];

/**
 * Parses a `hosts.toml`. Paths in it are relative to `directory`.
 *
 * Throws `invalid-argument` naming the file and the key. A file that cannot be understood is never
 * passed over: it may be what keeps names from being resolved by a mirror.
 */
export function parseHostsFile(text: string, file: string, directory: string): HostsFile {
  const reader = new Reader(file, directory);
  const document = reader.document(text);
  const unknownKeys = Object.keys(document).filter(
    (key) => ![...hostKeys, "server", "host"].includes(key),
  );
  const hosts: HostConfig[] = [];
  for (const [server, table] of Object.entries(reader.table(document["host"], "host"))) {
    const key = `host.${JSON.stringify(withoutUser(server))}`;
    const config = reader.table(table, key);
    hosts.push(reader.host(server, config, key));
    for (const name of Object.keys(config)) {
      if (!hostKeys.includes(name)) unknownKeys.push(`${key}.${name}`);
    }
  }
  const server = reader.text(document["server"], "server");
  hosts.push(reader.host(server === "" ? undefined : server, document, ""));
  return { hosts, unknownKeys };
}

type Table = Readonly<Record<string, unknown>>;

class Reader {
  readonly #file: string;
  readonly #directory: string;

  constructor(file: string, directory: string) {
    this.#file = file;
    this.#directory = directory;
  }

  document(text: string): Table {
    try {
      return parse(text);
    } catch (cause) {
      if (!(cause instanceof TomlError)) throw cause;
      const place = `line ${cause.line}, column ${cause.column}`;
      const [what = ""] = cause.message.replace(/^Invalid TOML document: /, "").split("\n");
      throw this.#invalid(`${place}: ${what}`, { cause });
    }
  }

  host(server: string | undefined, config: Table, key: string): HostConfig {
    const at = (name: string): string => (key === "" ? name : `${key}.${name}`);
    const overridePath = this.#flag(config["override_path"], at("override_path")) ?? false;
    const timeout = this.text(config["dial_timeout"], at("dial_timeout"));
    const { header = {} } = config;
    return {
      server:
        server === undefined ? undefined : this.#server(server, overridePath, key || "server"),
      capabilities: this.#capabilities(config["capabilities"], at("capabilities")),
      caFiles: this.#files(config["ca"], at("ca")),
      clientPairs: this.#pairs(config["client"], at("client")),
      skipVerify: this.#flag(config["skip_verify"], at("skip_verify")),
      dialTimeoutMs: timeout === "" ? undefined : this.#duration(timeout, at("dial_timeout")),
      headers: parseHeaderTable(header, `${this.#file}: ${at("header")}`),
    };
  }

  table(value: unknown, key: string): Table {
    if (value === undefined) return {};
    const isTable =
      typeof value === "object" &&
      value !== null &&
      !Array.isArray(value) &&
      Object.prototype.toString.call(value) === "[object Object]";
    if (!isTable) throw this.#wrongType(key, "a table", value);
    return Object.fromEntries(Object.entries(value));
  }

  text(value: unknown, key: string): string {
    if (value === undefined) return "";
    if (typeof value !== "string") throw this.#wrongType(key, "a string", value);
    return value;
  }

  #server(text: string, overridePath: boolean, key: string): ConfiguredServer {
    const [, scheme = "", address = ""] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(text) ?? [];
    const shown = JSON.stringify(withoutUser(text));
    if (!["", "http", "https"].includes(scheme.toLowerCase())) {
      const what = `${shown} has the scheme ${scheme}: http or https is expected`;
      throw this.#invalid(`${key}: ${what}`);
    }
    const whole = `${scheme || "https"}://${address}`;
    const url = URL.canParse(whole) ? new URL(whole) : undefined;
    const rest = url === undefined ? "" : url.username + url.password + url.search + url.hash;
    // A colon without a port is a scheme that lacks a slash.
    const isCut = /^[^/]*:(?:\/|$)/.test(address);
    if (url === undefined || url.host === "" || rest !== "" || isCut) {
      const shape = "[https://]HOST[:PORT][/PATH] is expected";
      throw this.#invalid(`${key}: ${shown} is no server: ${shape}`);
    }
    const path = posix.normalize(this.#decoded(url.pathname, key)).replace(/\/$/, "");
    const isWhole = overridePath || path.endsWith("/v2");
    return {
      scheme: url.protocol === "http:" ? "http" : "https",
      host: url.host,
      path: isWhole ? path : `${path}/v2`,
    };
  }

  #decoded(path: string, key: string): string {
    try {
      return decodeURI(path);
    } catch (cause) {
      throw this.#invalid(`${key}: malformed percent-encoding in its path`, { cause });
    }
  }

  #capabilities(value: unknown, key: string): readonly HostCapability[] {
    const names = value === undefined ? [] : this.#texts(value, key);
    if (names.length === 0) return allCapabilities;
    return names.map((name) => {
      const known = allCapabilities.find((capability) => capability === name.toLowerCase());
      if (known === undefined) {
        const expected = `one of ${allCapabilities.join(", ")} is expected`;
        throw this.#invalid(`${key}: unknown capability ${JSON.stringify(name)}: ${expected}`);
      }
      return known;
    });
  }

  #files(value: unknown, key: string): readonly string[] | undefined {
    if (value === undefined) return undefined;
    const names = typeof value === "string" ? [value] : this.#texts(value, key);
    return names.map((name) => posix.resolve(this.#directory, name));
  }

  #pairs(value: unknown, key: string): HostConfig["clientPairs"] {
    if (value === undefined) return undefined;
    if (typeof value === "string") return [{ cert: posix.resolve(this.#directory, value) }];
    if (!Array.isArray(value)) throw this.#wrongType(key, "a string or a list", value);
    return value.map((one: unknown) => {
      const [cert = "", keyFile = "", ...rest] =
        typeof one === "string" ? [one] : this.#texts(one, key);
      if (cert === "" || rest.length > 0 || (Array.isArray(one) && one.length !== 2)) {
        throw this.#invalid(`${key}: pairs are ["CERTIFICATE", "KEY"]`);
      }
      const pair = { cert: posix.resolve(this.#directory, cert) };
      return keyFile === "" ? pair : { ...pair, key: posix.resolve(this.#directory, keyFile) };
    });
  }

  #texts(value: unknown, key: string): readonly string[] {
    if (!Array.isArray(value)) throw this.#wrongType(key, "a list of strings", value);
    return value.map((one: unknown) => this.text(one ?? null, key));
  }

  #flag(value: unknown, key: string): boolean | undefined {
    if (value === undefined || typeof value === "boolean") return value;
    throw this.#wrongType(key, "true or false", value);
  }

  #duration(text: string, key: string): number {
    const ms = tryParseDuration(text);
    if (ms !== undefined && ms > 0) return ms;
    throw this.#invalid(`${key}: ${JSON.stringify(text)} is no duration such as "3s"`);
  }

  #wrongType(key: string, expected: string, value: unknown): CodedError {
    const shown = value === null || typeof value !== "object" ? JSON.stringify(value) : "another";
    return this.#invalid(`${key}: ${expected} is expected, not ${shown ?? typeof value}`);
  }

  #invalid(message: string, options?: ErrorOptions): CodedError {
    return new CodedError("invalid-argument", `${this.#file}: ${message}`, options);
  }
}
