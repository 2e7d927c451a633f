import type { Context } from "#pkg/context.ts";

export type MetricLabels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: MetricLabels;
  readonly value: number;
}

/** Counts of one histogram: `counts[i]` of values up to `bounds[i]`, of all of them in `count`. */
export interface Distribution {
  readonly labels: MetricLabels;
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** All that is known under one name. One without samples is not shown. */
export type MetricFamily =
  | {
      readonly name: string;
      readonly help: string;
      readonly type: "counter" | "gauge";
      readonly samples: readonly Sample[];
    }
  | {
      readonly name: string;
      readonly help: string;
      readonly type: "histogram";
      readonly samples: readonly Distribution[];
    };

/** Something that is asked for its metrics at each scrape. Must be bounded in time. */
export interface MetricSource {
  collect(ctx: Context): Promise<readonly MetricFamily[]> | readonly MetricFamily[];
}
