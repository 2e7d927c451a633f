import type { Distribution, MetricFamily, MetricLabels, MetricSource, Sample } from "./metrics.ts";

/** Upper bounds in seconds; Prometheus's usual ones. */
const secondsBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export interface Naming {
  readonly name: string;
  readonly help: string;
}

/**
 * Sums by labels. Labels must come from a closed set: each combination is kept until the daemon
 * ends.
 */
export class Counter implements MetricSource {
  readonly #naming: Naming;
  readonly #values = new Map<string, { readonly labels: MetricLabels; value: number }>();

  constructor(naming: Naming) {
    this.#naming = naming;
  }

  /** Adding 0 shows the combination before anything was counted. */
  add(labels: MetricLabels = {}, amount = 1): void {
    const key = JSON.stringify(labels);
    const entry = this.#values.get(key);
    if (entry) entry.value += amount;
    else this.#values.set(key, { labels, value: amount });
  }

  collect(): readonly MetricFamily[] {
    const samples: Sample[] = [...this.#values.values()].map((entry) => ({ ...entry }));
    return [{ ...this.#naming, type: "counter", samples }];
  }
}

/** How long things took, by labels of a closed set. */
export class SecondsHistogram implements MetricSource {
  readonly #naming: Naming;
  readonly #entries = new Map<
    string,
    { labels: MetricLabels; counts: number[]; sum: number; count: number }
  >();

  constructor(naming: Naming) {
    this.#naming = naming;
  }

  /** Shows the combination before anything was measured. */
  prepare(labels: MetricLabels = {}): void {
    this.#entry(labels);
  }

  observe(seconds: number, labels: MetricLabels = {}): void {
    const entry = this.#entry(labels);
    for (const [i, bound] of secondsBounds.entries()) {
      if (seconds <= bound) entry.counts[i] = (entry.counts[i] ?? 0) + 1;
    }
    entry.sum += seconds;
    entry.count += 1;
  }

  collect(): readonly MetricFamily[] {
    const samples: Distribution[] = [...this.#entries.values()].map((entry) => ({
      ...entry,
      counts: [...entry.counts],
      bounds: secondsBounds,
    }));
    return [{ ...this.#naming, type: "histogram", samples }];
  }

  #entry(labels: MetricLabels) {
    const key = JSON.stringify(labels);
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { labels, counts: secondsBounds.map(() => 0), sum: 0, count: 0 };
      this.#entries.set(key, entry);
    }
    return entry;
  }
}
