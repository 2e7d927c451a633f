import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any as AnyMessage, AnySchema } from "@bufbuild/protobuf/wkt";
import {
  type BlkIOEntrySchema,
  type MemoryEntrySchema,
  MetricsSchema,
} from "#api/cgroups/v1/metrics_pb.ts";
import { CgroupFiles, toNumber } from "./cgroup.ts";

type BlkIOEntry = MessageInitShape<typeof BlkIOEntrySchema>;

// Kernels count user and system time in hundredths of a second, whatever their own tick.
const nanosPerTick = 10_000_000n;

/** `io.containerd.cgroups.v1.Metrics` of the controllers that are there. */
export function toMetricsV1(paths: ReadonlyMap<string, string>): AnyMessage {
  const files = (controller: string): CgroupFiles | undefined => {
    const path = paths.get(controller);
    return path === undefined ? undefined : new CgroupFiles(path);
  };
  const [pids, memory, blkio, hugetlb] = ["pids", "memory", "blkio", "hugetlb"].map(files);
  const [cpuacct, cpu] = ["cpuacct", "cpu"].map(files);
  const message = create(MetricsSchema, {
    ...(pids && {
      pids: { current: pids.number("pids.current"), limit: pids.number("pids.max") },
    }),
    ...((cpuacct || cpu) && { cpu: toCpu(cpuacct, cpu) }),
    ...(memory && { memory: toMemory(memory), memoryOomControl: toOomControl(memory) }),
    ...(blkio && { blkio: toBlkio(blkio) }),
    ...(hugetlb && { hugetlb: toHugetlb(hugetlb) }),
  });
  const value = toBinary(MetricsSchema, message);
  return create(AnySchema, { typeUrl: MetricsSchema.typeName, value });
}

function toCpu(cpuacct: CgroupFiles | undefined, cpu: CgroupFiles | undefined) {
  const times = cpuacct?.table("cpuacct.stat");
  const throttling = cpu?.table("cpu.stat");
  const perCpu = cpuacct?.text("cpuacct.usage_percpu")?.trim().split(" ") ?? [];
  return {
    usage: {
      total: cpuacct?.number("cpuacct.usage") ?? 0n,
      user: (times?.get("user") ?? 0n) * nanosPerTick,
      kernel: (times?.get("system") ?? 0n) * nanosPerTick,
      perCpu: perCpu.map((word) => toNumber(word)),
    },
    throttling: {
      periods: throttling?.get("nr_periods") ?? 0n,
      throttledPeriods: throttling?.get("nr_throttled") ?? 0n,
      throttledTime: throttling?.get("throttled_time") ?? 0n,
    },
  };
}

function toMemory(files: CgroupFiles) {
  const stat = files.table("memory.stat");
  const of = (key: string): bigint => stat.get(key) ?? 0n;
  return {
    cache: of("cache"),
    rss: of("rss"),
    rssHuge: of("rss_huge"),
    mappedFile: of("mapped_file"),
    dirty: of("dirty"),
    writeback: of("writeback"),
    pgPgIn: of("pgpgin"),
    pgPgOut: of("pgpgout"),
    pgFault: of("pgfault"),
    pgMajFault: of("pgmajfault"),
    inactiveAnon: of("inactive_anon"),
    activeAnon: of("active_anon"),
    inactiveFile: of("inactive_file"),
    activeFile: of("active_file"),
    unevictable: of("unevictable"),
    hierarchicalMemoryLimit: of("hierarchical_memory_limit"),
    hierarchicalSwapLimit: of("hierarchical_memsw_limit"),
    totalCache: of("total_cache"),
    totalRss: of("total_rss"),
    totalRssHuge: of("total_rss_huge"),
    totalMappedFile: of("total_mapped_file"),
    totalDirty: of("total_dirty"),
    totalWriteback: of("total_writeback"),
    totalPgPgIn: of("total_pgpgin"),
    totalPgPgOut: of("total_pgpgout"),
    totalPgFault: of("total_pgfault"),
    totalPgMajFault: of("total_pgmajfault"),
    totalInactiveAnon: of("total_inactive_anon"),
    totalActiveAnon: of("total_active_anon"),
    totalInactiveFile: of("total_inactive_file"),
    totalActiveFile: of("total_active_file"),
    totalUnevictable: of("total_unevictable"),
    usage: toEntry(files, "memory"),
    swap: toEntry(files, "memory.memsw"),
    kernel: toEntry(files, "memory.kmem"),
    kernelTcp: toEntry(files, "memory.kmem.tcp"),
  };
}

function toEntry(files: CgroupFiles, prefix: string): MessageInitShape<typeof MemoryEntrySchema> {
  return {
    limit: files.number(`${prefix}.limit_in_bytes`),
    usage: files.number(`${prefix}.usage_in_bytes`),
    max: files.number(`${prefix}.max_usage_in_bytes`),
    failcnt: files.number(`${prefix}.failcnt`),
  };
}

function toOomControl(files: CgroupFiles) {
  const table = files.table("memory.oom_control");
  return {
    oomKillDisable: table.get("oom_kill_disable") ?? 0n,
    underOom: table.get("under_oom") ?? 0n,
    oomKill: table.get("oom_kill") ?? 0n,
  };
}

// CFQ's own files where the host still has it, else what the throttling layer counts.
function toBlkio(files: CgroupFiles) {
  const recursive = (name: string): BlkIOEntry[] => toBlkioEntries(files, `${name}_recursive`);
  const orThrottle = (name: string): BlkIOEntry[] => {
    const entries = recursive(`blkio.${name}`);
    return entries.length > 0 ? entries : toBlkioEntries(files, `blkio.throttle.${name}`);
  };
  return {
    ioServiceBytesRecursive: orThrottle("io_service_bytes"),
    ioServicedRecursive: orThrottle("io_serviced"),
    ioQueuedRecursive: recursive("blkio.io_queued"),
    ioServiceTimeRecursive: recursive("blkio.io_service_time"),
    ioWaitTimeRecursive: recursive("blkio.io_wait_time"),
    ioMergedRecursive: recursive("blkio.io_merged"),
    ioTimeRecursive: recursive("blkio.time"),
    sectorsRecursive: recursive("blkio.sectors"),
  };
}

function toBlkioEntries(files: CgroupFiles, name: string): BlkIOEntry[] {
  const entries: BlkIOEntry[] = [];
  for (const line of (files.text(name) ?? "").split("\n")) {
    const match = /^(\d+):(\d+) (?:(\S+) )?(\d+)$/.exec(line);
    if (!match) continue;
    const [, major = "0", minor = "0", op = "", value = "0"] = match;
    entries.push({ major: toNumber(major), minor: toNumber(minor), op, value: toNumber(value) });
  }
  return entries;
}

function toHugetlb(files: CgroupFiles) {
  const sizes = files
    .names()
    .flatMap((name) => /^hugetlb\.(\w+)\.usage_in_bytes$/.exec(name)?.[1] ?? []);
  return sizes.map((pagesize) => ({
    pagesize,
    usage: files.number(`hugetlb.${pagesize}.usage_in_bytes`),
    max: files.number(`hugetlb.${pagesize}.max_usage_in_bytes`),
    failcnt: files.number(`hugetlb.${pagesize}.failcnt`),
  }));
}
