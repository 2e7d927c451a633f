import type {
  BlockIoResources,
  CpuResources,
  DeviceRule,
  HugepageLimit,
  Int64,
  IntelRdt,
  LinuxResources,
  MemoryResources,
} from "#pkg/oci/linux-spec.ts";
import { editLinux, type SpecOption } from "#pkg/oci/spec-options.ts";

/** The change of what the cgroup is set to. Bytes and microseconds everywhere. */
export function editResources(edit: (resources: LinuxResources) => LinuxResources): SpecOption {
  return editLinux((linux) => ({ ...linux, resources: edit(linux.resources ?? {}) }));
}

/** Adds to what is set: `withMemory({ limit, swap })`. */
export function withMemory(memory: MemoryResources): SpecOption {
  return editResources((given) => ({ ...given, memory: { ...given.memory, ...memory } }));
}

export function withMemoryLimit(limit: Int64): SpecOption {
  return withMemory({ limit });
}

/** Adds to what is set: `withCpu({ shares: 512 })`, `withCpu({ cpus: "0-1" })`. */
export function withCpu(cpu: CpuResources): SpecOption {
  return editResources((given) => ({ ...given, cpu: { ...given.cpu, ...cpu } }));
}

/** At most `quota` of each `period`, over all CPUs. */
export function withCpuQuota(quota: Int64, { period }: { period: Int64 }): SpecOption {
  return withCpu({ quota, period });
}

export function withPidsLimit(limit: Int64): SpecOption {
  return editResources((given) => ({ ...given, pids: { limit } }));
}

/** Takes the place of the limit of the same page size. */
export function withHugepageLimits(limits: readonly HugepageLimit[]): SpecOption {
  return editResources((given) => {
    const others = (given.hugepageLimits ?? []).filter(
      ({ pageSize }) => !limits.some((limit) => limit.pageSize === pageSize),
    );
    return { ...given, hugepageLimits: [...others, ...limits] };
  });
}

export function withBlockIo(blockIO: BlockIoResources): SpecOption {
  return editResources((given) => ({ ...given, blockIO }));
}

/** Files of cgroup v2, as they are to be written. */
export function withUnified(files: Readonly<Record<string, string>>): SpecOption {
  return editResources((given) => ({ ...given, unified: { ...given.unified, ...files } }));
}

/** The class of service that the CPU's caches and memory bandwidth are shared out by. */
export function withIntelRdt(rdt: IntelRdt): SpecOption {
  return editLinux((linux) => ({ ...linux, intelRdt: rdt }));
}

export function withDeviceRules(rules: readonly DeviceRule[]): SpecOption {
  return editResources((given) => ({ ...given, devices: [...(given.devices ?? []), ...rules] }));
}

/** What the cgroup above allows, and no more is said here. */
export function withParentCgroupDevices(): SpecOption {
  return editResources((given) => {
    const { devices: _, ...others } = given;
    return others;
  });
}

export function withAllDevicesAllowed(): SpecOption {
  return editResources((given) => ({ ...given, devices: [{ allow: true, access: "rwm" }] }));
}

/** The devices that every runtime makes: null, zero, full, random, urandom, tty, console, ptmx, pts. */
export function withDefaultDevices(): SpecOption {
  return withDeviceRules([
    character(1, 3),
    character(1, 8),
    character(1, 7),
    character(5, 0),
    character(1, 5),
    character(1, 9),
    character(5, 1),
    { allow: true, type: "c", major: 136, access: "rwm" },
    character(5, 2),
  ]);
}

function character(major: number, minor: number): DeviceRule {
  return { allow: true, type: "c", major, minor, access: "rwm" };
}
