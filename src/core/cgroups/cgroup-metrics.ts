import type { ContainerStore } from "#core/containers/containers.ts";
import type { MetricFamily, MetricSource, Sample } from "#core/metrics/metrics.ts";
import type { Task, TaskRuntime } from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound } from "#pkg/errors.ts";
import type { CgroupValue } from "./cgroup-families-convert.ts";

export interface CgroupMetricsOptions {
  readonly runtime: Pick<TaskRuntime, "list">;
  readonly containers: Pick<ContainerStore, "get">;
  /** How long one shim may take; a scrape must not wait for one that hangs. */
  readonly statsTimeoutMs: number;
}

/** For io.containerd.timeout.metrics.shimstats. */
export const defaultStatsTimeoutMs = 2_000;

// All shims are asked together, so that those that hang cost a scrape one timeout in all; more than
// this many take turns.
const concurrencyMax = 256;

/** `container_*`: what the cgroups of all tasks count, by container, namespace and runtime. */
export class CgroupMetrics implements MetricSource {
  readonly #options: CgroupMetricsOptions;

  constructor(options: CgroupMetricsOptions) {
    this.#options = options;
  }

  async collect(ctx: Context): Promise<readonly MetricFamily[]> {
    const tasks = [...(await this.#options.runtime.list(ctx, { all: true }))];
    const families = new Map<string, Sample[]>();
    // Late: the message types cost time at a start, and most daemons are never scraped.
    const { cgroupValues } = await import("./cgroup-families-convert.ts");
    const work = async (): Promise<void> => {
      for (let task = tasks.pop(); task; task = tasks.pop()) {
        for (const { name, sample } of await this.#samplesOf(ctx, task, cgroupValues)) {
          const samples = families.get(name);
          if (samples) samples.push(sample);
          else families.set(name, [sample]);
        }
      }
    };
    const workers = Math.min(tasks.length, concurrencyMax);
    await Promise.all(Array.from({ length: workers }, work));
    return [...families].map(([name, samples]) => {
      const help = `${name.replaceAll("_", " ")} of the container's cgroup`;
      return { name: `container_${name}`, help, type: "gauge", samples };
    });
  }

  /** One that has gone, or whose shim does not answer, has none. */
  async #samplesOf(
    ctx: Context,
    task: Task,
    valuesOf: (stats: Any) => readonly CgroupValue[],
  ): Promise<readonly { readonly name: string; readonly sample: Sample }[]> {
    const { id, namespace } = task;
    const bounded = ctx.withNamespace(namespace).withTimeout(this.#options.statsTimeoutMs);
    try {
      const [stats, container] = await Promise.all([
        task.stats(bounded),
        this.#options.containers.get(bounded, id),
      ]);
      const owner = { container_id: id, namespace, runtime: container.runtime.name };
      return valuesOf(stats).map(({ name, value, labels }) => ({
        name,
        sample: { labels: { ...labels, ...owner }, value },
      }));
    } catch (error) {
      if (!isNotFound(error)) ctx.logger.error(`stat task ${id}`, { namespace, error });
      return [];
    }
  }
}
