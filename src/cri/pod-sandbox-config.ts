import type { Labels } from "#pkg/label.ts";

/** Whose namespace a pod uses: one of its own, that of the container, the host's, another container's. */
export type NamespaceMode = "pod" | "container" | "node" | "target";

/** What a kubelet wants a pod to be, as far as its sandbox is concerned. */
export interface PodSandboxConfig {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly namespace: string;
    readonly attempt: number;
  };
  /** Empty where the pod has the host's network. */
  readonly hostname: string;
  /** On the host. */
  readonly logDirectory: string;
  /** Undefined: that of the host. */
  readonly dns: DnsConfig | undefined;
  readonly labels: Labels;
  readonly annotations: Readonly<Record<string, string>>;
  /** Below every hierarchy of cgroups; empty where the runtime chooses. */
  readonly cgroupParent: string;
  readonly sysctls: Readonly<Record<string, string>>;
  /** The sum of its containers; told to runtimes that make a machine of a pod. */
  readonly resources: PodResources | undefined;
  readonly security: SandboxSecurity;
}

export interface DnsConfig {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface PodResources {
  readonly cpuPeriod: bigint;
  readonly cpuQuota: bigint;
  readonly cpuShares: bigint;
  readonly memoryLimitBytes: bigint;
}

export interface SandboxSecurity {
  readonly network: NamespaceMode;
  readonly pid: NamespaceMode;
  readonly ipc: NamespaceMode;
  /** Undefined: the kubelet knows of none, and the pod has the host's. */
  readonly user: UserNamespaceOptions | undefined;
  readonly runAsUser: bigint | undefined;
  readonly runAsGroup: bigint | undefined;
  readonly supplementalGroups: readonly bigint[];
  readonly privileged: boolean;
  /** Undefined: `seccompProfilePath` says. */
  readonly seccomp: SecurityProfile | undefined;
  /** The older form: `runtime/default`, `unconfined`, `localhost/PATH`, or empty. */
  readonly seccompProfilePath: string;
  /** SELinux' level, `s0:c1,c2`; the label itself is not supported yet. */
  readonly selinuxLevel: string;
}

export interface UserNamespaceOptions {
  readonly mode: NamespaceMode;
  readonly uids: readonly PodIdMapping[];
  readonly gids: readonly PodIdMapping[];
}

export interface PodIdMapping {
  readonly hostId: number;
  readonly containerId: number;
  readonly length: number;
}

export interface SecurityProfile {
  readonly type: "runtime-default" | "unconfined" | "localhost";
  /** Of `localhost`: a file with the profile. */
  readonly localhostRef: string;
}

export function hasHostNetwork({ security }: PodSandboxConfig): boolean {
  return security.network === "node";
}

/** Whether the pod gets at something of the host's by its namespaces. */
export function hasHostAccess({ security }: PodSandboxConfig): boolean {
  return [security.network, security.pid, security.ipc].includes("node");
}
