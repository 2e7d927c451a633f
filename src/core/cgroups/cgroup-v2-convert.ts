import { create, toBinary } from "@bufbuild/protobuf";
import { type Any as AnyMessage, AnySchema } from "@bufbuild/protobuf/wkt";
import { MetricsSchema } from "#api/cgroups/v2/metrics_pb.ts";
import { CgroupFiles, toNumber } from "./cgroup.ts";

/** How Go's clients read "no limit". */
const unlimited = 0xffff_ffff_ffff_ffffn;

/** `io.containerd.cgroups.v2.Metrics` of one directory. */
export function toMetricsV2(path: string): AnyMessage {
  const files = new CgroupFiles(path);
  const events = files.table("memory.events");
  const message = create(MetricsSchema, {
    pids: { current: files.number("pids.current"), limit: files.number("pids.max", unlimited) },
    cpu: toCpu(files),
    memory: toMemory(files),
    memoryEvents: {
      low: events.get("low") ?? 0n,
      high: events.get("high") ?? 0n,
      max: events.get("max") ?? 0n,
      oom: events.get("oom") ?? 0n,
      oomKill: events.get("oom_kill") ?? 0n,
    },
    io: { usage: toIo(files.text("io.stat") ?? "") },
    hugetlb: toHugetlb(files),
  });
  const value = toBinary(MetricsSchema, message);
  return create(AnySchema, { typeUrl: MetricsSchema.typeName, value });
}

/** Of a directory that holds others' cgroups, processor and memory alone: upstream's, for a pod. */
export function toPodMetricsV2(path: string): AnyMessage {
  const files = new CgroupFiles(path);
  const message = create(MetricsSchema, { cpu: toCpu(files), memory: toMemory(files) });
  const value = toBinary(MetricsSchema, message);
  return create(AnySchema, { typeUrl: MetricsSchema.typeName, value });
}

function toCpu(files: CgroupFiles) {
  const stat = files.table("cpu.stat");
  const of = (key: string): bigint => stat.get(key) ?? 0n;
  return {
    usageUsec: of("usage_usec"),
    userUsec: of("user_usec"),
    systemUsec: of("system_usec"),
    nrPeriods: of("nr_periods"),
    nrThrottled: of("nr_throttled"),
    throttledUsec: of("throttled_usec"),
    nrBursts: of("nr_bursts"),
    burstUsec: of("burst_usec"),
  };
}

function toMemory(files: CgroupFiles) {
  const stat = files.table("memory.stat");
  const of = (key: string): bigint => stat.get(key) ?? 0n;
  return {
    anon: of("anon"),
    file: of("file"),
    kernelStack: of("kernel_stack"),
    slab: of("slab"),
    sock: of("sock"),
    shmem: of("shmem"),
    fileMapped: of("file_mapped"),
    fileDirty: of("file_dirty"),
    fileWriteback: of("file_writeback"),
    anonThp: of("anon_thp"),
    inactiveAnon: of("inactive_anon"),
    activeAnon: of("active_anon"),
    inactiveFile: of("inactive_file"),
    activeFile: of("active_file"),
    unevictable: of("unevictable"),
    slabReclaimable: of("slab_reclaimable"),
    slabUnreclaimable: of("slab_unreclaimable"),
    pgfault: of("pgfault"),
    pgmajfault: of("pgmajfault"),
    workingsetRefault: of("workingset_refault"),
    workingsetActivate: of("workingset_activate"),
    workingsetNodereclaim: of("workingset_nodereclaim"),
    pgrefill: of("pgrefill"),
    pgscan: of("pgscan"),
    pgsteal: of("pgsteal"),
    pgactivate: of("pgactivate"),
    pgdeactivate: of("pgdeactivate"),
    pglazyfree: of("pglazyfree"),
    pglazyfreed: of("pglazyfreed"),
    thpFaultAlloc: of("thp_fault_alloc"),
    thpCollapseAlloc: of("thp_collapse_alloc"),
    usage: files.number("memory.current"),
    usageLimit: files.number("memory.max", unlimited),
    maxUsage: files.number("memory.peak"),
    swapUsage: files.number("memory.swap.current"),
    swapLimit: files.number("memory.swap.max", unlimited),
    swapMaxUsage: files.number("memory.swap.peak"),
  };
}

function toIo(text: string) {
  return text.split("\n").flatMap((line) => {
    const match = /^(\d+):(\d+) (.*)$/.exec(line);
    if (!match) return [];
    const [, major = "0", minor = "0", rest = ""] = match;
    const pairs = rest.split(" ").map((pair) => pair.split("="));
    const values = new Map(pairs.map(([key = "", value = ""]) => [key, toNumber(value)]));
    const of = (key: string): bigint => values.get(key) ?? 0n;
    const device = { major: toNumber(major), minor: toNumber(minor) };
    const bytes = { rbytes: of("rbytes"), wbytes: of("wbytes") };
    return [{ ...device, ...bytes, rios: of("rios"), wios: of("wios") }];
  });
}

function toHugetlb(files: CgroupFiles) {
  const sizes = files.names().flatMap((name) => /^hugetlb\.(\w+)\.current$/.exec(name)?.[1] ?? []);
  return sizes.map((pagesize) => ({
    pagesize,
    current: files.number(`hugetlb.${pagesize}.current`),
    max: files.number(`hugetlb.${pagesize}.max`, unlimited),
    failcnt: files.table(`hugetlb.${pagesize}.events`).get("max") ?? 0n,
  }));
}
