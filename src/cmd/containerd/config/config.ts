import type { ConfigTable } from "#pkg/plugin/plugin.ts";

/**
 * The highest version of the file that is understood; every file is brought to it when it is read.
 */
export const configVersion = 4;

export const defaults = {
  configFile: "/etc/containerd/config.toml",
  imports: "/etc/containerd/conf.d/*.toml",
  root: "/var/lib/containerd",
  state: "/run/containerd",
  address: "/run/containerd/containerd.sock",
  messageBytes: 16 << 20,
} as const;

export interface ProxyPluginConfig {
  readonly type: string;
  readonly address: string;
  readonly platform: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
}

export interface StreamProcessorConfig {
  readonly accepts: readonly string[];
  readonly returns: string;
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
}

/** The daemon's configuration, all files merged and at `configVersion`. */
export interface Config {
  readonly root: string;
  readonly state: string;
  /** Where temporary files go; empty leaves it to the environment. */
  readonly temp: string;
  readonly disabledPlugins: readonly string[];
  readonly requiredPlugins: readonly string[];
  readonly oomScore: number;
  readonly imports: readonly string[];
  readonly debug: { readonly level: string; readonly format: string; readonly logTraceId: boolean };
  /** Sections as written, by uri. */
  readonly plugins: Readonly<Record<string, ConfigTable>>;
  readonly cgroupPath: string;
  readonly proxyPlugins: Readonly<Record<string, ProxyPluginConfig>>;
  /** Durations as Go writes them, by name. */
  readonly timeouts: Readonly<Record<string, string>>;
  readonly streamProcessors: Readonly<Record<string, StreamProcessorConfig>>;
}

export const serverPlugins = {
  grpc: "io.containerd.server.v1.grpc",
  grpcTcp: "io.containerd.server.v1.grpc-tcp",
  ttrpc: "io.containerd.server.v1.ttrpc",
  debug: "io.containerd.server.v1.debug",
  metrics: "io.containerd.server.v1.metrics",
} as const;

export function defaultConfig(): Config {
  return {
    root: defaults.root,
    state: defaults.state,
    temp: "",
    disabledPlugins: [],
    requiredPlugins: [],
    oomScore: 0,
    imports: [defaults.imports],
    debug: { level: "", format: "", logTraceId: false },
    plugins: {},
    cgroupPath: "",
    proxyPlugins: {},
    timeouts: {},
    streamProcessors: ocicryptDecoders(),
  };
}

/** Encrypted layers are decrypted by the `ctd-decoder` of PATH, with the keys that lie there. */
function ocicryptDecoders(): Config["streamProcessors"] {
  const layer = "application/vnd.oci.image.layer.v1.tar";
  const decoder = (returns: string): StreamProcessorConfig => ({
    accepts: [`${returns}+encrypted`],
    returns,
    path: "ctd-decoder",
    args: ["--decryption-keys-path", "/etc/containerd/ocicrypt/keys"],
    env: ["OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf"],
  });
  return {
    "io.containerd.ocicrypt.decoder.v1.tar": decoder(layer),
    "io.containerd.ocicrypt.decoder.v1.tar.gzip": decoder(`${layer}+gzip`),
  };
}
