import { readFile, stat } from "node:fs/promises";
import * as v from "valibot";
import {
  askCredentialHelper,
  type CredentialHelperOptions,
} from "#core/remotes/credential-helper.ts";
import {
  canonicalHost,
  type Credentials,
  type CredentialSource,
} from "#core/remotes/credentials.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, isErrno, wrap } from "#pkg/errors.ts";

export interface DockerConfigOptions {
  /** `config.json`: read again each time somebody asks. */
  readonly file: string;
  /** Undefined: helpers that it names are passed over. */
  readonly helpers?: CredentialHelperOptions | undefined;
}

const authSchema = v.object({
  auth: v.optional(v.string()),
  username: v.optional(v.string()),
  password: v.optional(v.string()),
  identitytoken: v.optional(v.string()),
  registrytoken: v.optional(v.string()),
});

const configSchema = v.object({
  auths: v.optional(v.record(v.string(), authSchema)),
  credHelpers: v.optional(v.record(v.string(), v.string())),
  credsStore: v.optional(v.string()),
});

type Config = v.InferOutput<typeof configSchema>;

const fileBytesMax = 4 << 20;
/** What Docker calls its own registry in this file and to helpers. */
const dockerHubServer = "https://index.docker.io/v1/";

type Found =
  | { readonly kind: "helper"; readonly name: string; readonly server: string }
  | { readonly kind: "file"; readonly entry: v.InferOutput<typeof authSchema> };

/**
 * The credentials of `docker login`: a helper of the host, else the general one, else the file
 * itself. A missing file has none; a malformed one throws `failed-precondition`, not quoting it.
 */
export function dockerConfigCredentials(options: DockerConfigOptions): CredentialSource {
  const { file, helpers } = options;
  return {
    async get(ctx, host) {
      for (const found of candidates(await readConfig(file), host, helpers !== undefined)) {
        const credentials = await take(ctx, found, options);
        if (credentials) return credentials;
      }
      return undefined;
    },
    async describe(_ctx, host) {
      const [first] = candidates(await readConfig(file), host, helpers !== undefined);
      if (!first) return undefined;
      return first.kind === "helper" ? `credential helper "${first.name}" of ${file}` : file;
    },
  };
}

function candidates(config: Config, host: string, hasHelpers: boolean): readonly Found[] {
  const wanted = canonicalHost(host);
  const server = wanted === "docker.io" ? dockerHubServer : host;
  const found: Found[] = [];
  const own = Object.entries(config.credHelpers ?? {}).find(([key]) => hostOfKey(key) === wanted);
  if (own && hasHelpers) {
    found.push({ kind: "helper", name: own[1], server: wanted === "docker.io" ? server : own[0] });
  } else if (config.credsStore && hasHelpers) {
    found.push({ kind: "helper", name: config.credsStore, server });
  }
  const entry = Object.entries(config.auths ?? {}).find(([key]) => hostOfKey(key) === wanted)?.[1];
  if (entry) found.push({ kind: "file", entry });
  return found;
}

/** Keys are hosts, or URLs of old: `https://index.docker.io/v1/`. */
function hostOfKey(key: string): string {
  return canonicalHost(key.replace(/^https?:\/\//, "").split("/", 1)[0] ?? "");
}

async function take(
  ctx: Context,
  found: Found,
  { file, helpers }: DockerConfigOptions,
): Promise<Credentials | undefined> {
  if (found.kind === "helper") {
    return helpers && askCredentialHelper(ctx, found.name, found.server, helpers);
  }
  const { auth, username, password, identitytoken, registrytoken } = found.entry;
  if (registrytoken) return { username: "", secret: "", header: `Bearer ${registrytoken}` };
  if (identitytoken) return { username: "", secret: identitytoken };
  if (username && password) return { username, secret: password };
  return auth ? decodeAuth(auth, file) : undefined;
}

/** Base64 of `user:password`. Throws naming `where` it stood. */
export function decodeAuth(auth: string, where: string): Credentials {
  // Some writers have padded the password with NUL.
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  if (colon <= 0 || !/^[A-Za-z0-9+/=_-]+$/.test(auth)) {
    throw new CodedError("failed-precondition", `${where}: "auth" is no base64 of user:password`);
  }
  return { username: text.slice(0, colon), secret: text.slice(colon + 1) };
}

async function readConfig(file: string): Promise<Config> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > fileBytesMax) throw new CodedError("failed-precondition", `${file} is too large`);
    text = await readFile(file, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return {};
    throw wrap("docker configuration", error);
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    document = undefined; // -- the parser's words would quote secrets
  }
  const parsed = v.safeParse(configSchema, document);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const place = issue.path?.map(({ key }) => String(key)).join(".") ?? "JSON";
  throw new CodedError("failed-precondition", `${file}: malformed ${place}`);
}
