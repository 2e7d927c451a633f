import { readdir, readFile } from "node:fs/promises";
import type { MetricFamily, MetricSource } from "./metrics.ts";

const clockTicksPerSecond = 100;
const pageBytes = 4096;

/** `process_*` of the daemon itself, as Prometheus's own client libraries name them. */
export class ProcessMetrics implements MetricSource {
  async collect(): Promise<readonly MetricFamily[]> {
    const [stat, limits, machine, files] = await Promise.all([
      readFile("/proc/self/stat", "utf8"),
      readFile("/proc/self/limits", "utf8"),
      readFile("/proc/stat", "utf8"),
      readdir("/proc/self/fd"),
    ]);
    return processFamilies({ stat, limits, machine, openFiles: files.length });
  }
}

/** From the texts of /proc/PID/stat, /proc/PID/limits and /proc/stat. */
export function processFamilies(texts: {
  readonly stat: string;
  readonly limits: string;
  readonly machine: string;
  readonly openFiles: number;
}): readonly MetricFamily[] {
  const { stat, limits, machine, openFiles } = texts;
  // The name in parentheses may hold anything; what follows is numbers from field 3 on.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const field = (n: number): number => Number(fields[n - 3] ?? Number.NaN);
  const bootSeconds = Number(/^btime (\d+)$/m.exec(machine)?.[1] ?? Number.NaN);
  const limit = (name: string): number => {
    const soft = new RegExp(`^${name}\\s+(\\S+)`, "m").exec(limits)?.[1];
    return soft === "unlimited" ? 2 ** 64 : Number(soft ?? Number.NaN);
  };
  const gauge = (name: string, help: string, value: number): MetricFamily => ({
    name: `process_${name}`,
    help,
    type: "gauge",
    samples: Number.isNaN(value) ? [] : [{ labels: {}, value }],
  });
  const cpuSeconds = (field(14) + field(15)) / clockTicksPerSecond;
  return [
    {
      ...gauge("cpu_seconds_total", "user and system time, in seconds", cpuSeconds),
      type: "counter",
    } as MetricFamily, // -- one sample, whatever the type
    gauge("resident_memory_bytes", "memory that is resident", field(24) * pageBytes),
    gauge("virtual_memory_bytes", "size of the address space", field(23)),
    gauge("virtual_memory_max_bytes", "limit of the address space", limit("Max address space")),
    gauge("open_fds", "open file descriptors", openFiles),
    gauge("max_fds", "limit of open file descriptors", limit("Max open files")),
    gauge(
      "start_time_seconds",
      "when the process was started, in seconds since 1970",
      bootSeconds + field(22) / clockTicksPerSecond,
    ),
  ];
}
