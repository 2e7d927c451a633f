import type { DaemonKind } from "#test/support/daemon.ts";

export type Unit = "ms" | "us" | "MB" | "MB/s" | "calls" | "calls/s" | "times";

export interface Summary {
  readonly samples: number;
  readonly median: number;
  /** Quartiles: half of the samples lie between them. */
  readonly low: number;
  readonly high: number;
}

export interface Row {
  readonly bench: string;
  readonly measure: string;
  readonly unit: Unit;
  readonly go: Summary | undefined;
  readonly ours: Summary | undefined;
  /** Below 1 where ours is better, whichever way the unit points. Undefined without both sides. */
  readonly ratio: number | undefined;
}

const higherIsBetter: ReadonlySet<Unit> = new Set<Unit>(["MB/s", "calls/s"]);

/** What was measured so far, one row per measure in the order of their first samples. */
export class Measures {
  readonly #series = new Map<string, Series>();

  add(sample: Sample): void {
    const key = `${sample.bench}\0${sample.measure}`;
    const series = this.#series.get(key) ?? { ...sample, values: { go: [], ours: [] } };
    series.values[sample.kind].push(sample.value);
    this.#series.set(key, series);
  }

  rows(): Row[] {
    return [...this.#series.values()].map(({ bench, measure, unit, values }) => {
      const [go, ours] = [summarise(values.go), summarise(values.ours)];
      return { bench, measure, unit, go, ours, ratio: ratioOf(unit, go, ours) };
    });
  }
}

interface Series {
  readonly bench: string;
  readonly measure: string;
  readonly unit: Unit;
  readonly values: Readonly<Record<DaemonKind, number[]>>;
}

export interface Sample {
  readonly bench: string;
  readonly measure: string;
  readonly unit: Unit;
  readonly kind: DaemonKind;
  readonly value: number;
}

function ratioOf(unit: Unit, go?: Summary, ours?: Summary): number | undefined {
  if (go === undefined || ours === undefined) return undefined;
  const [above, below] = higherIsBetter.has(unit) ? [go, ours] : [ours, go];
  return below.median > 0 ? above.median / below.median : undefined;
}

function summarise(values: readonly number[]): Summary | undefined {
  if (values.length === 0) return undefined;
  return {
    samples: values.length,
    median: quantile(values, 0.5),
    low: quantile(values, 0.25),
    high: quantile(values, 0.75),
  };
}

/** Interpolated between neighbours. Throws for no values at all. */
export function quantile(values: readonly number[], at: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const position = (sorted.length - 1) * at;
  const lower = sorted[Math.floor(position)];
  const upper = sorted[Math.ceil(position)];
  if (lower === undefined || upper === undefined) throw new Error("quantile of no values");
  return lower + (upper - lower) * (position - Math.floor(position));
}
