import { cgroupAt } from "#core/cgroups/cgroup.ts";
import { toMetricsV1 } from "#core/cgroups/cgroup-v1-convert.ts";
import { toPodMetricsV2 } from "#core/cgroups/cgroup-v2-convert.ts";
import type { Any } from "#pkg/any.ts";
import { CodedError } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";

/** What all of a pod's processes use, by the cgroup that they are in. */
export function podMetrics(cgroupParent: string): Any {
  const cgroup = cgroupAt(cgroupParent);
  if (!cgroup) {
    // Without a class, as upstream.
    const words = `failed to load sandbox cgroup ${quote(cgroupParent)}: cgroup deleted`;
    throw new CodedError("unknown", words);
  }
  const { typeUrl, value } =
    cgroup.version === 2 ? toPodMetricsV2(cgroup.path) : toMetricsV1(cgroup.paths);
  return { typeUrl, value };
}
