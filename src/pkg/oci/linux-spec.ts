/** A 64-bit integer: a bigint where a number would lose digits. */
export type Int64 = number | bigint;

/** Of a namespace; the specification's words. */
export type NamespaceType =
  | "pid"
  | "network"
  | "mount"
  | "ipc"
  | "uts"
  | "user"
  | "cgroup"
  | "time";

export interface LinuxNamespace {
  readonly type: NamespaceType;
  /** One that exists, to be joined; without it a new one is made. */
  readonly path?: string;
}

export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/** A node that the runtime makes below the container's `/dev`. What may be done with it is for the cgroup to say. */
export interface LinuxDevice {
  readonly path: string;
  /** `c` or `u` character, `b` block, `p` FIFO. */
  readonly type: string;
  readonly major?: Int64;
  readonly minor?: Int64;
  /** Permission bits. */
  readonly fileMode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** One line of the device cgroup. The last that fits decides. */
export interface DeviceRule {
  readonly allow: boolean;
  /** `a` for both; left out like `a`. */
  readonly type?: string;
  /** Left out for all. */
  readonly major?: Int64;
  readonly minor?: Int64;
  /** Of `r`, `w` and `m` (mknod). */
  readonly access?: string;
}

export interface MemoryResources {
  readonly limit?: Int64;
  readonly reservation?: Int64;
  /** Memory and swap together. */
  readonly swap?: Int64;
  readonly kernel?: Int64;
  readonly kernelTCP?: Int64;
  readonly swappiness?: Int64;
  readonly disableOOMKiller?: boolean;
  readonly useHierarchy?: boolean;
  readonly checkBeforeUpdate?: boolean;
}

export interface CpuResources {
  readonly shares?: Int64;
  /** Microseconds of each `period`. */
  readonly quota?: Int64;
  readonly burst?: Int64;
  readonly period?: Int64;
  readonly realtimeRuntime?: Int64;
  readonly realtimePeriod?: Int64;
  /** A list such as `0-2,7`. */
  readonly cpus?: string;
  readonly mems?: string;
  readonly idle?: Int64;
}

export interface WeightDevice {
  readonly major: Int64;
  readonly minor: Int64;
  readonly weight?: number;
  readonly leafWeight?: number;
}

export interface ThrottleDevice {
  readonly major: Int64;
  readonly minor: Int64;
  /** Bytes or operations a second. */
  readonly rate: Int64;
}

export interface BlockIoResources {
  readonly weight?: number;
  readonly leafWeight?: number;
  readonly weightDevice?: readonly WeightDevice[];
  readonly throttleReadBpsDevice?: readonly ThrottleDevice[];
  readonly throttleWriteBpsDevice?: readonly ThrottleDevice[];
  readonly throttleReadIOPSDevice?: readonly ThrottleDevice[];
  readonly throttleWriteIOPSDevice?: readonly ThrottleDevice[];
}

export interface HugepageLimit {
  /** `2MB`, `1GB`. */
  readonly pageSize: string;
  readonly limit: Int64;
}

/** What the container's cgroup is set to. It is also what `Update` of a task takes. */
export interface LinuxResources {
  readonly devices?: readonly DeviceRule[];
  readonly memory?: MemoryResources;
  readonly cpu?: CpuResources;
  readonly pids?: { readonly limit?: Int64 };
  readonly blockIO?: BlockIoResources;
  readonly hugepageLimits?: readonly HugepageLimit[];
  readonly network?: {
    readonly classID?: number;
    readonly priorities?: readonly { readonly name: string; readonly priority: number }[];
  };
  readonly rdma?: Readonly<
    Record<string, { readonly hcaHandles?: number; readonly hcaObjects?: number }>
  >;
  /** Files of cgroup v2 and their contents, as they are. */
  readonly unified?: Readonly<Record<string, string>>;
}

export interface IntelRdt {
  readonly closID?: string;
  readonly schemata?: readonly string[];
  readonly l3CacheSchema?: string;
  readonly memBwSchema?: string;
  readonly enableMonitoring?: boolean;
}

/** Compares one argument of a system call. */
export interface SeccompArgument {
  readonly index: number;
  readonly value: Int64;
  /** Of `SCMP_CMP_MASKED_EQ`: `value` is the mask then. */
  readonly valueTwo?: Int64;
  readonly op: string;
}

/** What happens to system calls of these names whose arguments fit all of `args`. */
export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly SeccompRule[];
}

/** The part of a specification that only Linux has. */
export interface LinuxSpec {
  readonly uidMappings?: readonly IdMapping[];
  readonly gidMappings?: readonly IdMapping[];
  readonly sysctl?: Readonly<Record<string, string>>;
  readonly resources?: LinuxResources;
  /** Below the mount of each hierarchy, or `slice:prefix:name` under systemd. */
  readonly cgroupsPath?: string;
  readonly namespaces?: readonly LinuxNamespace[];
  readonly devices?: readonly LinuxDevice[];
  /** Host interfaces by their names, and what they are called inside. */
  readonly netDevices?: Readonly<Record<string, { readonly name?: string }>>;
  readonly seccomp?: SeccompProfile;
  readonly rootfsPropagation?: string;
  /** Hidden: an empty file or directory is mounted over each that exists. */
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
  readonly mountLabel?: string;
  readonly intelRdt?: IntelRdt;
  readonly personality?: { readonly domain: string; readonly flags?: readonly string[] };
  readonly timeOffsets?: Readonly<
    Record<string, { readonly secs?: Int64; readonly nanosecs?: number }>
  >;
  readonly memoryPolicy?: {
    readonly mode: string;
    readonly nodes: string;
    readonly flags?: readonly string[];
  };
}
