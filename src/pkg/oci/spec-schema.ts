import * as v from "valibot";
import type { OciSpec } from "#pkg/oci/runtime-spec.ts";

// The types say what the fields mean; here is what JSON must look like to be one. The two are held
// against each other at the end of this file.

const text = v.exactOptional(v.string());
const flag = v.exactOptional(v.boolean());
const texts = v.exactOptional(v.array(v.string()));
const list = <S extends v.GenericSchema>(item: S) => v.exactOptional(v.array(item));

/** Not `v.record`, which passes over keys such as `constructor`. */
function mapOf<T>(isValue: (value: unknown) => boolean, what: string) {
  return v.custom<Readonly<Record<string, T>>>(
    (value) =>
      typeof value === "object" &&
      value !== null &&
      !Array.isArray(value) &&
      Object.values(value).every(isValue),
    `not a map of ${what}`,
  );
}

const textMap = mapOf<string>((value) => typeof value === "string", "strings");

const int64Min = -(2n ** 63n);
const uint64Max = 2n ** 64n - 1n;
const int64 = v.custom<number | bigint>(
  (value) =>
    Number.isSafeInteger(value) ||
    (typeof value === "bigint" && value >= int64Min && value <= uint64Max),
  "not a 64-bit integer",
);
const optionalInt64 = v.exactOptional(int64);
const uint32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffffff));
const int32 = v.pipe(v.number(), v.integer(), v.minValue(-(2 ** 31)), v.maxValue(2 ** 31 - 1));
const optionalUint32 = v.exactOptional(uint32);

const idMappings = list(v.object({ containerID: uint32, hostID: uint32, size: uint32 }));

const weightDevices = list(
  v.object({
    major: int64,
    minor: int64,
    weight: optionalUint32,
    leafWeight: optionalUint32,
  }),
);
const throttleDevices = list(v.object({ major: int64, minor: int64, rate: int64 }));

const memory = v.object({
  limit: optionalInt64,
  reservation: optionalInt64,
  swap: optionalInt64,
  kernel: optionalInt64,
  kernelTCP: optionalInt64,
  swappiness: optionalInt64,
  disableOOMKiller: flag,
  useHierarchy: flag,
  checkBeforeUpdate: flag,
});

const cpu = v.object({
  shares: optionalInt64,
  quota: optionalInt64,
  burst: optionalInt64,
  period: optionalInt64,
  realtimeRuntime: optionalInt64,
  realtimePeriod: optionalInt64,
  cpus: text,
  mems: text,
  idle: optionalInt64,
});

const blockIo = v.object({
  weight: optionalUint32,
  leafWeight: optionalUint32,
  weightDevice: weightDevices,
  throttleReadBpsDevice: throttleDevices,
  throttleWriteBpsDevice: throttleDevices,
  throttleReadIOPSDevice: throttleDevices,
  throttleWriteIOPSDevice: throttleDevices,
});

const deviceRule = v.object({
  allow: v.boolean(),
  type: text,
  major: optionalInt64,
  minor: optionalInt64,
  access: text,
});

const rdmaLimits = v.object({ hcaHandles: optionalUint32, hcaObjects: optionalUint32 });

export const linuxResourcesSchema = v.object({
  devices: list(deviceRule),
  memory: v.exactOptional(memory),
  cpu: v.exactOptional(cpu),
  pids: v.exactOptional(v.object({ limit: optionalInt64 })),
  blockIO: v.exactOptional(blockIo),
  hugepageLimits: list(v.object({ pageSize: v.string(), limit: int64 })),
  network: v.exactOptional(
    v.object({
      classID: optionalUint32,
      priorities: list(v.object({ name: v.string(), priority: uint32 })),
    }),
  ),
  rdma: v.exactOptional(
    mapOf<v.InferOutput<typeof rdmaLimits>>((value) => v.is(rdmaLimits, value), "limits"),
  ),
  unified: v.exactOptional(textMap),
});

export const seccompSchema = v.object({
  defaultAction: v.string(),
  defaultErrnoRet: optionalUint32,
  architectures: texts,
  flags: texts,
  listenerPath: text,
  listenerMetadata: text,
  syscalls: list(
    v.object({
      names: v.array(v.string()),
      action: v.string(),
      errnoRet: optionalUint32,
      args: list(
        v.object({ index: uint32, value: int64, valueTwo: optionalInt64, op: v.string() }),
      ),
    }),
  ),
});

const namespaceType = v.picklist([
  "pid",
  "network",
  "mount",
  "ipc",
  "uts",
  "user",
  "cgroup",
  "time",
]);

const device = v.object({
  path: v.string(),
  type: v.string(),
  major: optionalInt64,
  minor: optionalInt64,
  fileMode: optionalUint32,
  uid: optionalUint32,
  gid: optionalUint32,
});

const netDevice = v.object({ name: text });
const timeOffset = v.object({ secs: optionalInt64, nanosecs: optionalUint32 });

const linuxSchema = v.object({
  uidMappings: idMappings,
  gidMappings: idMappings,
  sysctl: v.exactOptional(textMap),
  resources: v.exactOptional(linuxResourcesSchema),
  cgroupsPath: text,
  namespaces: list(v.object({ type: namespaceType, path: text })),
  devices: list(device),
  netDevices: v.exactOptional(
    mapOf<v.InferOutput<typeof netDevice>>((value) => v.is(netDevice, value), "interfaces"),
  ),
  seccomp: v.exactOptional(seccompSchema),
  rootfsPropagation: text,
  maskedPaths: texts,
  readonlyPaths: texts,
  mountLabel: text,
  intelRdt: v.exactOptional(
    v.object({
      closID: text,
      schemata: texts,
      l3CacheSchema: text,
      memBwSchema: text,
      enableMonitoring: flag,
    }),
  ),
  personality: v.exactOptional(v.object({ domain: v.string(), flags: texts })),
  timeOffsets: v.exactOptional(
    mapOf<v.InferOutput<typeof timeOffset>>((value) => v.is(timeOffset, value), "offsets"),
  ),
  memoryPolicy: v.exactOptional(v.object({ mode: v.string(), nodes: v.string(), flags: texts })),
});

const capabilities = v.object({
  bounding: texts,
  effective: texts,
  inheritable: texts,
  permitted: texts,
  ambient: texts,
});

export const processSchema = v.object({
  terminal: flag,
  consoleSize: v.exactOptional(v.object({ height: uint32, width: uint32 })),
  user: v.exactOptional(
    v.object({
      uid: optionalUint32,
      gid: optionalUint32,
      umask: optionalUint32,
      additionalGids: list(uint32),
      username: text,
    }),
  ),
  args: texts,
  env: texts,
  cwd: v.string(),
  capabilities: v.exactOptional(capabilities),
  rlimits: list(v.object({ type: v.string(), hard: int64, soft: int64 })),
  noNewPrivileges: flag,
  apparmorProfile: text,
  oomScoreAdj: v.exactOptional(int32),
  selinuxLabel: text,
  ioPriority: v.exactOptional(v.object({ class: v.string(), priority: int32 })),
  scheduler: v.exactOptional(
    v.object({
      policy: v.string(),
      nice: v.exactOptional(int32),
      priority: v.exactOptional(int32),
      flags: texts,
      runtime: optionalInt64,
      deadline: optionalInt64,
      period: optionalInt64,
    }),
  ),
  execCPUAffinity: v.exactOptional(v.object({ initial: text, final: text })),
});

const mount = v.object({
  destination: v.string(),
  type: text,
  source: text,
  options: texts,
  uidMappings: idMappings,
  gidMappings: idMappings,
});

const hooks = list(
  v.object({ path: v.string(), args: texts, env: texts, timeout: v.exactOptional(int32) }),
);

export const specSchema = v.object({
  ociVersion: v.string(),
  root: v.exactOptional(v.object({ path: v.string(), readonly: flag })),
  process: v.exactOptional(processSchema),
  hostname: text,
  domainname: text,
  mounts: list(mount),
  hooks: v.exactOptional(
    v.object({
      prestart: hooks,
      createRuntime: hooks,
      createContainer: hooks,
      startContainer: hooks,
      poststart: hooks,
      poststop: hooks,
    }),
  ),
  annotations: v.exactOptional(textMap),
  linux: v.exactOptional(linuxSchema),
});

type Present<T> = T extends readonly (infer Item)[]
  ? readonly Present<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]-?: Present<NonNullable<T[Key]>> }
    : T;
type Same<A, B> = [A, B] extends [B, A] ? true : false;
true satisfies Same<Present<v.InferOutput<typeof specSchema>>, Present<OciSpec>>;
