import { fromBinary } from "@bufbuild/protobuf";
import { MetricsSchema as MetricsV1Schema } from "#api/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2Schema } from "#api/cgroups/v2/metrics_pb.ts";
import type { MetricLabels } from "#core/metrics/metrics.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { valuesV1 } from "./values-v1-convert.ts";
import { valuesV2 } from "./values-v2-convert.ts";

/** One number of a cgroup; labels beyond those that say whose it is. */
export interface CgroupValue {
  /** Without the prefix `container_`. */
  readonly name: string;
  readonly value: number;
  readonly labels?: MetricLabels | undefined;
}

/** The numbers in a shim's statistics. Throws `invalid-argument` for statistics of another kind. */
export function cgroupValues(stats: Any): readonly CgroupValue[] {
  const name = stats.typeUrl.slice(stats.typeUrl.lastIndexOf("/") + 1);
  try {
    if (name === MetricsV1Schema.typeName) {
      return valuesV1(fromBinary(MetricsV1Schema, stats.value));
    }
    if (name === MetricsV2Schema.typeName) {
      return valuesV2(fromBinary(MetricsV2Schema, stats.value));
    }
  } catch (cause) {
    throw invalidArgument(`stats: ${name}: ${messageOf(cause)}`, { cause });
  }
  throw invalidArgument(`stats: unknown type ${JSON.stringify(stats.typeUrl)}`);
}
