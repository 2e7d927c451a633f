import { withCapabilities } from "#pkg/oci/capabilities.ts";
import {
  applyOptions,
  type SpecOption,
  withApparmorProfile,
  withMaskedPaths,
  withReadonlyPaths,
  withSeccomp,
  withSelinuxLabel,
  withWritable,
} from "#pkg/oci/spec-options.ts";

/**
 * Takes away what keeps a container from the host's kernel: all of `capabilities` (those of
 * `currentCapabilities`), nothing masked or read-only, no seccomp, AppArmor or SELinux.
 *
 * The host's devices are a matter of their own: `withAllDevicesAllowed`, and `withDevices` of
 * `hostDevices`.
 */
export function withPrivileges(capabilities: readonly string[]): SpecOption {
  return (spec) =>
    applyOptions(
      spec,
      withCapabilities(capabilities),
      withMaskedPaths([]),
      withReadonlyPaths([]),
      withWritable("sysfs"),
      withWritable("cgroup"),
      withSelinuxLabel(""),
      withApparmorProfile(""),
      withSeccomp(undefined),
    );
}
