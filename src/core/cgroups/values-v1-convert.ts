import type { BlkIOEntry, MemoryEntry, MemoryStat, Metrics } from "#api/cgroups/v1/metrics_pb.ts";
import type { CgroupValue } from "./cgroup-families-convert.ts";

type Counts<M> = { readonly [K in keyof M as M[K] extends bigint ? K : never]: bigint };

const memoryFields = {
  memory_cache_bytes: "cache",
  memory_rss_bytes: "rss",
  memory_rss_huge_bytes: "rssHuge",
  memory_mapped_file_bytes: "mappedFile",
  memory_dirty_bytes: "dirty",
  memory_writeback_bytes: "writeback",
  memory_pgpgin_bytes: "pgPgIn",
  memory_pgpgout_bytes: "pgPgOut",
  memory_pgfault_bytes: "pgFault",
  memory_pgmajfault_bytes: "pgMajFault",
  memory_inactive_anon_bytes: "inactiveAnon",
  memory_active_anon_bytes: "activeAnon",
  memory_inactive_file_bytes: "inactiveFile",
  memory_active_file_bytes: "activeFile",
  memory_unevictable_bytes: "unevictable",
  memory_hierarchical_memory_limit_bytes: "hierarchicalMemoryLimit",
  memory_hierarchical_memsw_limit_bytes: "hierarchicalSwapLimit",
  memory_total_cache_bytes: "totalCache",
  memory_total_rss_bytes: "totalRss",
  memory_total_rss_huge_bytes: "totalRssHuge",
  memory_total_mapped_file_bytes: "totalMappedFile",
  memory_total_dirty_bytes: "totalDirty",
  memory_total_writeback_bytes: "totalWriteback",
  memory_total_pgpgin_bytes: "totalPgPgIn",
  memory_total_pgpgout_bytes: "totalPgPgOut",
  memory_total_pgfault_bytes: "totalPgFault",
  memory_total_pgmajfault_bytes: "totalPgMajFault",
  memory_total_inactive_anon_bytes: "totalInactiveAnon",
  memory_total_active_anon_bytes: "totalActiveAnon",
  memory_total_inactive_file_bytes: "totalInactiveFile",
  memory_total_active_file_bytes: "totalActiveFile",
  memory_total_unevictable_bytes: "totalUnevictable",
} as const satisfies Readonly<Record<string, keyof Counts<MemoryStat>>>;

const memoryEntries = {
  usage: "usage",
  swap: "swap",
  kernel: "kernel",
  kerneltcp: "kernelTcp",
} as const;

const entryFields = {
  failcnt_total: "failcnt",
  limit_bytes: "limit",
  max_bytes: "max",
  usage_bytes: "usage",
} as const satisfies Readonly<Record<string, keyof Counts<MemoryEntry>>>;

/** Upstream's names of what a v1 hierarchy counts. A controller that is not there is left out. */
export function valuesV1(metrics: Metrics): readonly CgroupValue[] {
  return [
    ...pidsValues(metrics),
    ...cpuValues(metrics),
    ...(metrics.memory ? memoryValues(metrics.memory) : []),
    ...hugetlbValues(metrics),
    ...blkioValues(metrics),
  ];
}

function pidsValues({ pids }: Metrics): readonly CgroupValue[] {
  if (!pids) return [];
  return [of("pids_limit", pids.limit), of("pids_current", pids.current)];
}

function cpuValues({ cpu }: Metrics): readonly CgroupValue[] {
  const { usage, throttling } = cpu ?? {};
  const perCpu = usage?.perCpu.map((value, i) => of("per_cpu_nanoseconds", value, { cpu: `${i}` }));
  return [
    ...(usage
      ? [
          of("cpu_total_nanoseconds", usage.total),
          of("cpu_kernel_nanoseconds", usage.kernel),
          of("cpu_user_nanoseconds", usage.user),
        ]
      : []),
    ...(perCpu ?? []),
    ...(throttling
      ? [
          of("cpu_throttle_periods_total", throttling.periods),
          of("cpu_throttled_periods_total", throttling.throttledPeriods),
          of("cpu_throttled_time_nanoseconds", throttling.throttledTime),
        ]
      : []),
  ];
}

function memoryValues(memory: MemoryStat): readonly CgroupValue[] {
  const stats = Object.entries(memoryFields).map(([name, field]) => of(name, memory[field]));
  const entries = Object.entries(memoryEntries).flatMap(([kind, at]) => {
    const entry = memory[at];
    if (!entry) return [];
    const fields = Object.entries(entryFields);
    return fields.map(([name, field]) => of(`memory_${kind}_${name}`, entry[field]));
  });
  return [...stats, ...entries];
}

function hugetlbValues({ hugetlb }: Metrics): readonly CgroupValue[] {
  return hugetlb.flatMap(({ usage, failcnt, max, pagesize: page }) => [
    of("hugetlb_usage_bytes", usage, { page }),
    of("hugetlb_failcnt_total", failcnt, { page }),
    of("hugetlb_max_bytes", max, { page }),
  ]);
}

function blkioValues({ blkio }: Metrics): readonly CgroupValue[] {
  if (!blkio) return [];
  const entries = (name: string, all: readonly BlkIOEntry[]): CgroupValue[] =>
    all.map(({ op, device, major, minor, value }) =>
      of(`blkio_${name}`, value, { op, device, major: `${major}`, minor: `${minor}` }),
    );
  return [
    ...entries("io_merged_recursive_total", blkio.ioMergedRecursive),
    ...entries("io_queued_recursive_total", blkio.ioQueuedRecursive),
    ...entries("io_service_bytes_recursive_bytes", blkio.ioServiceBytesRecursive),
    ...entries("io_service_time_recursive_total", blkio.ioServiceTimeRecursive),
    ...entries("io_serviced_recursive_total", blkio.ioServicedRecursive),
    ...entries("io_time_recursive_total", blkio.ioTimeRecursive),
    ...entries("sectors_recursive_total", blkio.sectorsRecursive),
  ];
}

function of(name: string, value: bigint, labels?: Readonly<Record<string, string>>): CgroupValue {
  return { name, value: Number(value), labels };
}
