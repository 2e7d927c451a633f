import type { CPUStat, MemoryStat, Metrics } from "#api/cgroups/v2/metrics_pb.ts";
import type { CgroupValue } from "./cgroup-families-convert.ts";

type Counts<M> = { readonly [K in keyof M as M[K] extends bigint ? K : never]: bigint };

const cpuFields = {
  cpu_usage_usec_microseconds: "usageUsec",
  cpu_user_usec_microseconds: "userUsec",
  cpu_system_usec_microseconds: "systemUsec",
  cpu_nr_periods_total: "nrPeriods",
  cpu_nr_throttled_total: "nrThrottled",
  cpu_throttled_usec_microseconds: "throttledUsec",
} as const satisfies Readonly<Record<string, keyof Counts<CPUStat>>>;

const memoryFields = {
  memory_usage_bytes: "usage",
  memory_usage_limit_bytes: "usageLimit",
  memory_swap_usage_bytes: "swapUsage",
  memory_swap_limit_bytes: "swapLimit",
  memory_file_mapped_bytes: "fileMapped",
  memory_file_dirty_bytes: "fileDirty",
  memory_file_writeback_bytes: "fileWriteback",
  memory_pgactivate_bytes: "pgactivate",
  memory_pgdeactivate_bytes: "pgdeactivate",
  memory_pgfault_bytes: "pgfault",
  memory_pgmajfault_bytes: "pgmajfault",
  memory_pglazyfree_bytes: "pglazyfree",
  memory_pgrefill_bytes: "pgrefill",
  memory_pglazyfreed_bytes: "pglazyfreed",
  memory_pgscan_bytes: "pgscan",
  memory_pgsteal_bytes: "pgsteal",
  memory_inactive_anon_bytes: "inactiveAnon",
  memory_active_anon_bytes: "activeAnon",
  memory_inactive_file_bytes: "inactiveFile",
  memory_active_file_bytes: "activeFile",
  memory_unevictable_bytes: "unevictable",
  memory_anon_bytes: "anon",
  memory_file_bytes: "file",
  memory_kernel_stack_bytes: "kernelStack",
  memory_slab_bytes: "slab",
  memory_sock_bytes: "sock",
  memory_shmem_bytes: "shmem",
  memory_anon_thp_bytes: "anonThp",
  memory_slab_reclaimable_bytes: "slabReclaimable",
  memory_slab_unreclaimable_bytes: "slabUnreclaimable",
  memory_workingset_refault_bytes: "workingsetRefault",
  memory_workingset_activate_bytes: "workingsetActivate",
  memory_workingset_nodereclaim_bytes: "workingsetNodereclaim",
  memory_thp_fault_alloc_bytes: "thpFaultAlloc",
  memory_thp_collapse_alloc_bytes: "thpCollapseAlloc",
} as const satisfies Readonly<Record<string, keyof Counts<MemoryStat>>>;

/** Upstream's names of what a unified hierarchy counts. A controller that is not there is left out. */
export function valuesV2(metrics: Metrics): readonly CgroupValue[] {
  const { pids, cpu, memory, memoryEvents, io } = metrics;
  return [
    ...(pids ? [of("pids_limit", pids.limit), of("pids_current", pids.current)] : []),
    ...(cpu ? Object.entries(cpuFields).map(([name, field]) => of(name, cpu[field])) : []),
    ...(memory ? Object.entries(memoryFields).map(([name, field]) => of(name, memory[field])) : []),
    ...(memoryEvents ? [of("memory_oom_total", memoryEvents.oom)] : []),
    ...(io?.usage ?? []).flatMap((entry) => {
      const labels = { major: `${entry.major}`, minor: `${entry.minor}` };
      return [
        of("io_rbytes_bytes", entry.rbytes, labels),
        of("io_wbytes_bytes", entry.wbytes, labels),
        of("io_rios_total", entry.rios, labels),
        of("io_wios_total", entry.wios, labels),
      ];
    }),
  ];
}

function of(name: string, value: bigint, labels?: Readonly<Record<string, string>>): CgroupValue {
  return { name, value: Number(value), labels };
}
