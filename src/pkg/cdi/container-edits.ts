import { normalize } from "node:path/posix";
import type { CompleteEdits } from "#pkg/cdi/complete-edits.ts";
import type { DeviceRule, LinuxDevice } from "#pkg/oci/linux-spec.ts";
import { withDeviceRules, withIntelRdt } from "#pkg/oci/resource-options.ts";
import type { OciSpec, SpecMount } from "#pkg/oci/runtime-spec.ts";
import {
  applyOptions,
  editLinux,
  editProcess,
  type SpecOption,
  withEnv,
  withHook,
} from "#pkg/oci/spec-options.ts";

/**
 * Applies edits one after the other. A node or mount at a path takes the place of the one there, and
 * mounts come out ordered by depth, so that none hides another.
 */
export function withContainerEdits(all: readonly CompleteEdits[]): SpecOption {
  return (spec) => {
    const edited = applyOptions(spec, ...all.map(withEdits));
    if (!all.some(({ mounts = [] }) => mounts.length > 0)) return edited;
    const mounts = (edited.mounts ?? []).toSorted((a, b) => depthOf(a) - depthOf(b));
    return { ...edited, mounts };
  };
}

function withEdits(edits: CompleteEdits): SpecOption {
  const { env = [], mounts = [], hooks = [], netDevices = [], additionalGids = [] } = edits;
  return (spec) =>
    applyOptions(
      spec,
      ...(env.length > 0 ? [withEnv(env)] : []),
      ...edits.deviceNodes.map(withNode),
      ...netDevices.map(({ hostInterfaceName, name }) =>
        editLinux((linux) => ({
          ...linux,
          netDevices: { ...linux.netDevices, [hostInterfaceName]: { name } },
        })),
      ),
      ...mounts.map(withMount),
      ...hooks.map(({ hookName, ...hook }) => withHook(hookName, hook)),
      ...(edits.intelRdt ? [withIntelRdt(edits.intelRdt)] : []),
      withGroups(additionalGids.filter((gid) => gid !== 0)),
    );
}

function withNode(node: CompleteEdits["deviceNodes"][number]): SpecOption {
  const { path, type, permissions = "", fileMode } = node;
  const { major = 0, minor = 0 } = node;
  const access = permissions === "" ? "rwm" : permissions === "none" ? "" : permissions;
  const rule: DeviceRule = { allow: true, type, major, minor, access };
  return (spec) => {
    const uid = node.uid ?? nonZero(spec.process?.user?.uid);
    const gid = node.gid ?? nonZero(spec.process?.user?.gid);
    const device: LinuxDevice = {
      path,
      type,
      major,
      minor,
      ...(fileMode !== undefined && { fileMode }),
      ...(uid !== undefined && { uid }),
      ...(gid !== undefined && { gid }),
    };
    return applyOptions(
      spec,
      editLinux((linux) => {
        const others = (linux.devices ?? []).filter((given) => given.path !== path);
        return { ...linux, devices: [...others, device] };
      }),
      ...(type === "b" || type === "c" ? [withDeviceRules([rule])] : []),
    );
  };
}

function nonZero(id: number | undefined): number | undefined {
  return id === 0 ? undefined : id;
}

function withMount(given: NonNullable<CompleteEdits["mounts"]>[number]): SpecOption {
  const { hostPath, containerPath, type, options = [] } = given;
  return (spec) => {
    const mount: SpecMount = {
      destination: containerPath,
      source: hostPath,
      ...(type !== undefined && type !== "" && { type }),
      ...optionsOf(spec, options, type ?? ""),
    };
    const others = (spec.mounts ?? []).filter(({ destination }) => destination !== containerPath);
    return { ...spec, mounts: [...others, mount] };
  };
}

/** In a user namespace the files of a device are nobody's unless their ids are mapped. */
function optionsOf(spec: OciSpec, options: readonly string[], type: string) {
  const hasUserNamespace = spec.linux?.namespaces?.some((each) => each.type === "user") ?? false;
  const isBind = type === "bind" || options.some((option) => /^r?bind$/.test(option));
  const isMapped = options.some((option) => /^r?idmap$/.test(option));
  if (!hasUserNamespace || !isBind || isMapped) return options.length > 0 ? { options } : {};
  return { options: [...options, options.includes("rbind") ? "ridmap" : "idmap"] };
}

function withGroups(gids: readonly number[]): SpecOption {
  if (gids.length === 0) return (spec) => spec;
  return editProcess((process) => {
    const given = process.user?.additionalGids ?? [];
    return {
      ...process,
      user: { ...process.user, additionalGids: [...new Set([...given, ...gids])] },
    };
  });
}

function depthOf({ destination }: SpecMount): number {
  return normalize(destination)
    .replace(/(.)\/$/, "$1")
    .split("/").length;
}
