import type { ConfigFile } from "#cmd/containerd/config/file.ts";
import { serverPlugins } from "#cmd/containerd/config/config.ts";
import type { Logger } from "#pkg/log.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";

type Sections = Record<string, Record<string, unknown>>;

/**
 * Brings a file to a version, one step at a time; at each step the plugins move their own keys. A
 * file without a version is of version 1. One that is newer stays as it is.
 */
export function migrateConfigFile(
  file: ConfigFile,
  toVersion: number,
  { plugins, logger }: { plugins: readonly AnyPlugin[]; logger: Logger },
): ConfigFile {
  const from = file.version ?? 0;
  let migrated = file;
  for (let version = Math.max(from, 1); version < toVersion; version++) {
    if (version === 1) migrated = fromShortNames(migrated, logger);
    if (version === 3) migrated = serversToPlugins(migrated);
    const sections: Sections = { ...migrated.plugins };
    for (const plugin of plugins) plugin.config?.migrate?.(version, sections);
    migrated = { ...migrated, plugins: sections, version: version + 1 };
  }
  if (from < toVersion) {
    logger.warn(
      `Configuration migrated from version ${from}, ` +
        "use `containerd config migrate` to avoid migration",
    );
  }
  return migrated;
}

const shortNames: Readonly<Record<string, string>> = {
  cri: "io.containerd.grpc.v1.cri",
  cgroups: "io.containerd.monitor.v1.cgroups",
  linux: "io.containerd.runtime.v1.linux",
  scheduler: "io.containerd.gc.v1.scheduler",
  bolt: "io.containerd.metadata.v1.bolt",
  task: "io.containerd.runtime.v2.task",
  opt: "io.containerd.internal.v1.opt",
  restart: "io.containerd.internal.v1.restart",
  tracing: "io.containerd.internal.v1.tracing",
  otlp: "io.containerd.tracing.processor.v1.otlp",
  aufs: "io.containerd.snapshotter.v1.aufs",
  btrfs: "io.containerd.snapshotter.v1.btrfs",
  devmapper: "io.containerd.snapshotter.v1.devmapper",
  native: "io.containerd.snapshotter.v1.native",
  overlayfs: "io.containerd.snapshotter.v1.overlayfs",
  zfs: "io.containerd.snapshotter.v1.zfs",
};

/** Version 1 named plugins by their id alone. */
function fromShortNames(file: ConfigFile, logger: Logger): ConfigFile {
  const uriOf = (name: string): string => {
    if (name.includes(".")) return name;
    const known = Object.hasOwn(shortNames, name) ? shortNames[name] : undefined;
    if (known !== undefined) return known;
    if (name.endsWith("-service")) return `io.containerd.service.v1.${name}`;
    const uri = `io.containerd.grpc.v1.${name}`;
    logger.warn(`Ambiguous ${name} plugin in v1 config, treating as ${uri}`);
    return uri;
  };
  const sections = Object.entries(file.plugins ?? {});
  return {
    ...file,
    plugins: Object.fromEntries(sections.map(([name, section]) => [uriOf(name), section])),
    ...(file.disabled_plugins && { disabled_plugins: file.disabled_plugins.map(uriOf) }),
    ...(file.required_plugins && { required_plugins: file.required_plugins.map(uriOf) }),
  };
}

/**
 * Up to version 3 the listeners had tables of their own. A section that the file already has for a
 * listener wins.
 *
 * Absent, zero and empty were the same to those versions, so a zero only moves where the address
 * was given: there it meant root.
 */
function serversToPlugins(file: ConfigFile): ConfigFile {
  const sections: Sections = { ...file.plugins };
  const add = (uri: string, section: Record<string, unknown> | undefined): void => {
    if (section && !Object.hasOwn(sections, uri)) sections[uri] = section;
  };
  const { grpc = {}, ttrpc = {}, metrics = {}, debug: { address, uid, gid, ...debug } = {} } = file;
  if (address) add(serverPlugins.debug, { address, uid: uid ?? 0, gid: gid ?? 0 });
  add(serverPlugins.grpc, grpcSection(grpc));
  add(serverPlugins.grpcTcp, grpcTcpSection(grpc));
  add(serverPlugins.ttrpc, ttrpcSection(ttrpc, grpc));
  if (metrics.grpc_histogram) {
    add("io.containerd.metrics.v1.grpc-prometheus", { grpc_histogram: true });
  }
  if (metrics.address) add(serverPlugins.metrics, { address: metrics.address });
  const { grpc: _grpc, ttrpc: _ttrpc, metrics: _metrics, ...rest } = file;
  return { ...rest, ...(file.debug && { debug }), plugins: sections };
}

type Grpc = NonNullable<ConfigFile["grpc"]>;
type Ttrpc = NonNullable<ConfigFile["ttrpc"]>;

function grpcSection(grpc: Grpc): Record<string, unknown> | undefined {
  const owner = grpc.address
    ? { address: grpc.address, uid: grpc.uid ?? 0, gid: grpc.gid ?? 0 }
    : nonZero({ uid: grpc.uid, gid: grpc.gid });
  const section = { ...owner, ...messageSizes(grpc) };
  return Object.keys(section).length > 0 ? section : undefined;
}

function grpcTcpSection(grpc: Grpc): Record<string, unknown> | undefined {
  if (!grpc.tcp_address) return undefined;
  return {
    address: grpc.tcp_address,
    ...nonZero({
      tls_ca: grpc.tcp_tls_ca,
      tls_cert: grpc.tcp_tls_cert,
      tls_key: grpc.tcp_tls_key,
      tls_common_name: grpc.tcp_tls_common_name,
    }),
    ...messageSizes(grpc),
  };
}

/** Without an address of its own the socket stands beside that of gRPC, with the same owner. */
function ttrpcSection(ttrpc: Ttrpc, grpc: Grpc): Record<string, unknown> | undefined {
  const beside = !ttrpc.address && grpc.address ? grpc : {};
  const address = ttrpc.address || (beside.address && `${beside.address}.ttrpc`);
  const uid = ttrpc.uid || beside.uid;
  const gid = ttrpc.gid || beside.gid;
  if (!address && !uid && !gid) return undefined;
  return { ...(address && { address }), uid: uid ?? 0, gid: gid ?? 0 };
}

function messageSizes(grpc: Grpc): Record<string, unknown> {
  return nonZero({
    max_recv_message_size: grpc.max_recv_message_size,
    max_send_message_size: grpc.max_send_message_size,
  });
}

function nonZero(table: Record<string, string | number | undefined>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(table).filter(([, value]) => value));
}
