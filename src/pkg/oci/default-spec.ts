import { readFile, stat } from "node:fs/promises";
import { join } from "node:path/posix";
import { isErrno } from "#pkg/errors.ts";
import { defaultCapabilities } from "#pkg/oci/capabilities.ts";
import { type OciSpec, type SpecMount, specVersion } from "#pkg/oci/runtime-spec.ts";

/** What every container has PATH set to whose image does not say. */
export const defaultEnv: readonly string[] = [
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/**
 * What a container is unless somebody says otherwise: namespaces of its own, root with a few
 * capabilities and none to inherit (CVE-2022-24769), no device, and nothing of the host to see.
 *
 * `maskedPaths` are those of `hostMaskedPaths`; left out, only those that every host has are.
 */
export function defaultSpec(options: {
  readonly namespace: string;
  readonly id: string;
  readonly maskedPaths?: readonly string[];
}): OciSpec {
  const capabilities = defaultCapabilities;
  return {
    ociVersion: specVersion,
    process: {
      user: { uid: 0, gid: 0 },
      cwd: "/",
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs" },
    mounts: defaultMounts,
    linux: {
      resources: { devices: [{ allow: false, access: "rwm" }] },
      cgroupsPath: join("/", options.namespace, options.id),
      namespaces: [
        { type: "pid" },
        { type: "ipc" },
        { type: "uts" },
        { type: "mount" },
        { type: "network" },
      ],
      maskedPaths: options.maskedPaths ?? maskedPaths,
      readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
  };
}

const defaultMounts: readonly SpecMount[] = [
  { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
  {
    destination: "/dev",
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
  },
  {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
  },
  {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
  },
  {
    destination: "/dev/mqueue",
    type: "mqueue",
    source: "mqueue",
    options: ["nosuid", "noexec", "nodev"],
  },
  {
    destination: "/sys",
    type: "sysfs",
    source: "sysfs",
    options: ["nosuid", "noexec", "nodev", "ro"],
  },
  {
    destination: "/run",
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
  },
];

// powercap tells of the processor's use of energy, and so of keys (GHSA-7ww5-4wqc-m92c); interrupts
// and thermal_throttle tell of what the neighbours do.
const maskedPaths: readonly string[] = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
  "/proc/scsi",
];

// As many CPUs as a kernel can be built for.
const cpusMax = 8192;

/** What is masked on this host: the same for all, and `thermal_throttle` of each CPU that has it. */
export async function hostMaskedPaths(sysfs = "/sys"): Promise<readonly string[]> {
  const cpus = join(sysfs, "devices/system/cpu");
  const throttles = (await possibleCpus(join(cpus, "possible"))).map(
    (cpu) => `devices/system/cpu/cpu${cpu}/thermal_throttle`,
  );
  const there = await Promise.all(throttles.map((path) => exists(join(sysfs, path))));
  const found = throttles.filter((_, i) => there[i]);
  return [...maskedPaths, ...found.map((path) => join("/sys", path))];
}

async function possibleCpus(path: string): Promise<number[]> {
  try {
    return parseCpuList(await readFile(path, "utf8"));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return [];
    throw error;
  }
}

/** `0-3,8` of sysfs; what is no such list is empty. */
export function parseCpuList(text: string): number[] {
  const cpus: number[] = [];
  for (const part of text.trim().split(",")) {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    if (!range) continue;
    const last = Number(range[2] ?? range[1]);
    for (let cpu = Number(range[1]); cpu <= last && cpus.length < cpusMax; cpu++) cpus.push(cpu);
  }
  return cpus;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return false;
    throw error;
  }
}
