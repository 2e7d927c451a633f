import {
  type LinuxContainerResources,
  type LinuxSandboxSecurityContext,
  NamespaceMode as WireMode,
  type PodSandboxConfig as ConfigMessage,
  type SecurityProfile as ProfileMessage,
  SecurityProfile_ProfileType as WireProfile,
  type UserNamespace,
} from "#api/cri/runtime/v1/config_pb.ts";
import type {
  NamespaceMode,
  PodResources,
  PodSandboxConfig,
  SandboxSecurity,
  SecurityProfile,
  UserNamespaceOptions,
} from "#cri/pod-sandbox-config.ts";
import { invalidArgument } from "#pkg/errors.ts";

/** Throws `invalid-argument` naming a field whose value is of no known kind. */
export function podSandboxConfigOf(message: ConfigMessage): PodSandboxConfig {
  const { metadata, dnsConfig, linux } = message;
  return {
    metadata: {
      name: metadata?.name ?? "",
      uid: metadata?.uid ?? "",
      namespace: metadata?.namespace ?? "",
      attempt: metadata?.attempt ?? 0,
    },
    hostname: message.hostname,
    logDirectory: message.logDirectory,
    dns: dnsConfig && {
      servers: dnsConfig.servers,
      searches: dnsConfig.searches,
      options: dnsConfig.options,
    },
    labels: message.labels,
    annotations: message.annotations,
    cgroupParent: linux?.cgroupParent ?? "",
    sysctls: linux?.sysctls ?? {},
    resources: resourcesOf(linux?.resources),
    security: securityOf(linux?.securityContext),
  };
}

function resourcesOf(message: LinuxContainerResources | undefined): PodResources | undefined {
  return (
    message && {
      cpuPeriod: message.cpuPeriod,
      cpuQuota: message.cpuQuota,
      cpuShares: message.cpuShares,
      memoryLimitBytes: message.memoryLimitInBytes,
    }
  );
}

function securityOf(message: LinuxSandboxSecurityContext | undefined): SandboxSecurity {
  const options = message?.namespaceOptions;
  const mode = (what: "network" | "pid" | "ipc"): NamespaceMode =>
    modeOf(options?.[what] ?? WireMode.POD, `namespace_options.${what}`);
  return {
    network: mode("network"),
    pid: mode("pid"),
    ipc: mode("ipc"),
    user: userOf(options?.usernsOptions),
    runAsUser: message?.runAsUser?.value,
    runAsGroup: message?.runAsGroup?.value,
    supplementalGroups: message?.supplementalGroups ?? [],
    privileged: message?.privileged ?? false,
    seccomp: profileOf(message?.seccomp),
    seccompProfilePath: message?.seccompProfilePath ?? "",
    selinuxLevel: message?.selinuxOptions?.level ?? "",
  };
}

function userOf(message: UserNamespace | undefined): UserNamespaceOptions | undefined {
  if (!message) return undefined;
  const { uids, gids } = message;
  return {
    mode: modeOf(message.mode, "namespace_options.userns_options.mode"),
    uids: uids.map(({ hostId, containerId, length }) => ({ hostId, containerId, length })),
    gids: gids.map(({ hostId, containerId, length }) => ({ hostId, containerId, length })),
  };
}

function modeOf(mode: WireMode, field: string): NamespaceMode {
  switch (mode) {
    case WireMode.POD:
      return "pod";
    case WireMode.CONTAINER:
      return "container";
    case WireMode.NODE:
      return "node";
    case WireMode.TARGET:
      return "target";
    default:
      // Enums of the wire are open.
      throw invalidArgument(`${field}: unknown namespace mode ${String(mode)}`);
  }
}

function profileOf(message: ProfileMessage | undefined): SecurityProfile | undefined {
  if (!message) return undefined;
  const { localhostRef } = message;
  switch (message.profileType) {
    case WireProfile.RuntimeDefault:
      return { type: "runtime-default", localhostRef };
    case WireProfile.Unconfined:
      return { type: "unconfined", localhostRef };
    case WireProfile.Localhost:
      return { type: "localhost", localhostRef };
    default:
      throw invalidArgument(`seccomp.profile_type: unknown type ${String(message.profileType)}`);
  }
}
