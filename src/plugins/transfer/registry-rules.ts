import {
  type CriRegistry,
  criCredentials,
  isConfigured,
  parseCriRegistry,
} from "#core/remotes/cri-registry.ts";
import type { CredentialHelperOptions } from "#core/remotes/credential-helper.ts";
import { type CredentialSource, firstOf } from "#core/remotes/credentials.ts";
import { dockerConfigCredentials } from "#core/remotes/docker-config.ts";
import { invalidArgument } from "#pkg/errors.ts";

/** What the configuration says of registries. */
export interface RegistrySettings {
  /** Directories of host configuration, with colons between. */
  readonly configPath: string;
  /** A `config.json` as `docker login` writes it; empty: none. */
  readonly dockerConfig: string;
  /** The `registry` table of the CRI plugin, as it stands in the file. */
  readonly criTable: unknown;
}

/** Which hosts are asked for a registry, and with whose credentials, whoever asks. */
export interface RegistryRules {
  readonly roots: readonly string[];
  /** Instead of the roots. */
  readonly cri: CriRegistry | undefined;
  /** The daemon's own, for those who have none. */
  readonly credentials: CredentialSource;
}

const defaultRoots = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/** Throws `invalid-argument` for settings that contradict each other. */
export function registryRules(
  { configPath, dockerConfig, criTable }: RegistrySettings,
  helpers: CredentialHelperOptions,
): RegistryRules {
  const cri = parseCriRegistry(criTable ?? {});
  const criPath = criConfigPath(criTable);
  if (criPath !== "" && isConfigured(cri)) {
    throw invalidArgument(
      "registry of the CRI configuration: mirrors, configs and auths cannot be set when config_path is provided",
    );
  }
  const path = configPath === "" ? criPath : configPath;
  const docker =
    dockerConfig === "" ? [] : [dockerConfigCredentials({ file: dockerConfig, helpers })];
  return {
    roots: path === "" ? defaultRoots : path.split(":"),
    // A directory named for transfers is meant for them.
    cri: configPath === "" && isConfigured(cri) ? cri : undefined,
    credentials: firstOf([...docker, criCredentials(cri)]),
  };
}

function criConfigPath(table: unknown): string {
  if (typeof table !== "object" || table === null || !("config_path" in table)) return "";
  const { config_path: path } = table;
  if (typeof path === "string") return path;
  throw invalidArgument("registry of the CRI configuration: config_path: string is expected");
}
