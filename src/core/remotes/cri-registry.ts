import * as v from "valibot";
import {
  canonicalHost,
  type Credentials,
  type CredentialSource,
} from "#core/remotes/credentials.ts";
import { decodeAuth } from "#core/remotes/docker-config.ts";
import type { PlannedHost } from "#core/remotes/hosts.ts";
import { isLocalhost } from "#core/remotes/localhost.ts";
import { allCapabilities } from "#core/remotes/registry-host.ts";
import { withoutUser } from "#core/remotes/sanitize-url.ts";
import { defaultTls, type TlsSettings } from "#core/remotes/tls-settings.ts";
import { CodedError } from "#pkg/errors.ts";

const authSchema = v.object({
  username: v.optional(v.string(), ""),
  password: v.optional(v.string(), ""),
  auth: v.optional(v.string(), ""),
  identitytoken: v.optional(v.string(), ""),
});

const tlsSchema = v.object({
  insecure_skip_verify: v.optional(v.boolean(), false),
  ca_file: v.optional(v.string(), ""),
  cert_file: v.optional(v.string(), ""),
  key_file: v.optional(v.string(), ""),
});

const registrySchema = v.object({
  mirrors: v.optional(
    v.record(v.string(), v.object({ endpoint: v.optional(v.array(v.string()), []) })),
    {},
  ),
  configs: v.optional(
    v.record(v.string(), v.object({ auth: v.optional(authSchema), tls: v.optional(tlsSchema) })),
    {},
  ),
  auths: v.optional(v.record(v.string(), authSchema), {}),
});

/** `mirrors`, `configs` and `auths` of the CRI plugin's `registry`, from before `hosts.toml`. */
export type CriRegistry = v.InferOutput<typeof registrySchema>;

const section = "registry of the CRI configuration";

/**
 * Throws `invalid-argument` naming the key, never a value: there are passwords among them. Tables
 * that do not concern hosts are left out.
 */
export function parseCriRegistry(table: unknown): CriRegistry {
  const parsed = v.safeParse(registrySchema, table);
  if (parsed.success) return parsed.output;
  const [{ path = [], expected }] = parsed.issues;
  const key = path.map((part) => String(part.key)).join(".");
  const wanted = expected === null ? "" : `: ${expected} is expected`;
  throw new CodedError("invalid-argument", `${section}: ${key}${wanted}`);
}

/** Whether it says anything of hosts: then a `config_path` beside it is a mistake. */
export function isConfigured({ mirrors, configs, auths }: CriRegistry): boolean {
  return [mirrors, configs, auths].some((table) => Object.keys(table).length > 0);
}

/**
 * The mirrors of a registry, or those of `*`, and the registry itself after them unless it is one.
 * Nothing is pushed to a mirror. Throws `invalid-argument` for an endpoint that is no URL.
 */
export function planCriHosts(namespace: string, registry: CriRegistry): readonly PlannedHost[] {
  const key = Object.hasOwn(registry.mirrors, namespace) ? namespace : "*";
  const endpoints = registry.mirrors[key]?.endpoint ?? [];
  const urls = endpoints.map((endpoint) => parseEndpoint(endpoint, key));
  const why = urls.length > 0 ? `mirrors.${JSON.stringify(key)} of the ${section}` : section;
  const own = namespace === "docker.io" ? "registry-1.docker.io" : namespace;
  if (!urls.some(({ host }) => host === namespace)) urls.push(parseEndpoint(own, key));
  return urls.map((url) => {
    const isMirror = url.host !== namespace && url.host !== own;
    const path = url.pathname.replace(/\/$/, "");
    return {
      scheme: url.protocol === "http:" ? "http" : "https",
      host: url.host,
      path: path === "" ? "/v2" : path,
      capabilities: isMirror ? ["pull", "resolve", "referrers"] : allCapabilities,
      headers: {},
      tls: tlsOf(registry, url.host),
      dialTimeoutMs: undefined,
      fallsBack: false,
      why,
    };
  });
}

function parseEndpoint(endpoint: string, key: string): URL {
  const scheme = isLocalhost(endpoint.split("/", 1)[0] ?? "") ? "http" : "https";
  const text = endpoint.includes("://") ? endpoint : `${scheme}://${endpoint}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.host !== "") return url;
  const shown = JSON.stringify(withoutUser(endpoint));
  throw new CodedError(
    "invalid-argument",
    `${section}: mirrors.${JSON.stringify(key)}.endpoint: ${shown} is no URL`,
  );
}

function tlsOf({ configs }: CriRegistry, host: string): TlsSettings {
  const tls = Object.hasOwn(configs, host) ? configs[host]?.tls : undefined;
  if (!tls) return defaultTls;
  const { ca_file: ca, cert_file: cert, key_file: key } = tls;
  return {
    caFiles: ca === "" ? [] : [ca],
    clientPairs: cert === "" ? [] : [{ cert, ...(key !== "" && { key }) }],
    skipVerify: tls.insecure_skip_verify,
  };
}

/** Its `auths`, by the host of their URL, and the `auth` of its `configs`. */
export function criCredentials({ configs, auths }: CriRegistry): CredentialSource {
  const found = (
    host: string,
  ): { key: string; auth: v.InferOutput<typeof authSchema> } | undefined => {
    const isHost = (key: string): boolean => canonicalHost(hostOf(key)) === canonicalHost(host);
    const config = Object.entries(configs).find(([key, { auth }]) => auth && isHost(key));
    if (config?.[1].auth)
      return { key: `configs.${JSON.stringify(config[0])}`, auth: config[1].auth };
    const auth = Object.entries(auths).find(([key]) => isHost(key));
    return auth && { key: `auths.${JSON.stringify(auth[0])}`, auth: auth[1] };
  };
  return {
    async get(_ctx, host) {
      const one = found(host);
      return one && credentialsOf(one.auth, `${section}: ${one.key}`);
    },
    async describe(_ctx, host) {
      const one = found(host);
      return one && `${one.key} of the ${section}`;
    },
  };
}

function hostOf(key: string): string {
  return key.includes("://") && URL.canParse(key) ? new URL(key).host : key;
}

function credentialsOf(
  { username, password, auth, identitytoken }: v.InferOutput<typeof authSchema>,
  where: string,
): Credentials | undefined {
  if (username !== "") return { username, secret: password };
  if (identitytoken !== "") return { username: "", secret: identitytoken };
  return auth === "" ? undefined : decodeAuth(auth, where);
}
