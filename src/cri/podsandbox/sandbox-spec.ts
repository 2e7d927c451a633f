import { basename, join, normalize } from "node:path/posix";
import { annotations, sandboxKind } from "#cri/annotations.ts";
import { hasHostNetwork, type PodSandboxConfig } from "#cri/pod-sandbox-config.ts";
import { matchesPattern } from "#cri/podsandbox/pattern.ts";
import type { SandboxPaths } from "#cri/podsandbox/sandbox-paths.ts";
import type { PodMappings } from "#cri/podsandbox/user-namespace.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import type { ImageRunConfig } from "#pkg/oci/image-config.ts";
import { withCpu } from "#pkg/oci/resource-options.ts";
import type { OciSpec, SpecMount } from "#pkg/oci/runtime-spec.ts";
import {
  applyOptions,
  editProcess,
  type SpecOption,
  withAnnotations,
  withApparmorProfile,
  withArgs,
  withCgroupsPath,
  withCwd,
  withEnv,
  withHostname,
  withHostNamespace,
  withMounts,
  withNamespace,
  withOomScoreAdj,
  withoutMounts,
  withReadonlyRoot,
  withSysctls,
  withUserNamespace,
} from "#pkg/oci/spec-options.ts";

/** Everything that makes the specification of a sandbox's container: no more is looked at. */
export interface SandboxSpecInput {
  readonly id: string;
  readonly namespace: string;
  readonly config: PodSandboxConfig;
  readonly image: ImageRunConfig;
  /** As configured. */
  readonly imageName: string;
  readonly netnsPath: string;
  readonly paths: SandboxPaths;
  readonly mappings: PodMappings | undefined;
  /** Patterns of the pod's annotations that the runtime gets to see. */
  readonly podAnnotations: readonly string[];
  readonly maskedPaths: readonly string[];
  readonly oomScoreAdj: number;
  readonly unprivilegedPorts: boolean;
  readonly unprivilegedIcmp: boolean;
}

/** Hardly any time: it only waits. */
const cpuShares = 2;
const devShm = "/dev/shm";
const bindOptions = ["rbind", "ro", "nosuid", "nodev", "noexec"];

/**
 * The specification of the container that holds a pod's namespaces: the default one without limits
 * of its own, read-only, with the namespaces that the pod asks for.
 *
 * User and seccomp are not in it yet: for them the container's root may have to be looked at.
 */
export function sandboxSpec(input: SandboxSpecInput): OciSpec {
  const { id, namespace, config, image, maskedPaths } = input;
  const args = [...image.entrypoint, ...image.cmd];
  if (args.length === 0) throw invalidArgument("invalid empty entrypoint and cmd in image config");
  const { cgroupParent } = config;
  return applyOptions(
    defaultSpec({ namespace, id, maskedPaths }),
    withoutMounts(["/run", devShm]),
    withoutLimits,
    withEnv(image.env),
    withReadonlyRoot(),
    config.hostname === "" ? unchanged : withHostname(config.hostname),
    image.workingDir === "" ? unchanged : withCwd(image.workingDir),
    withArgs(args),
    cgroupParent === "" ? unchanged : withCgroupsPath(cgroupsPath(cgroupParent, id)),
    withPodNamespaces(input),
    withPodMounts(input),
    withGroups(config.security.supplementalGroups),
    withPodSysctls(input),
    withCpu({ shares: cpuShares }),
    withOomScoreAdj(input.oomScoreAdj),
    withAnnotations(specAnnotations(input)),
    config.security.privileged ? withWritableSys : unchanged,
  );
}

const unchanged: SpecOption = (spec) => spec;

const withoutLimits: SpecOption = (spec) =>
  applyOptions(
    spec,
    withApparmorProfile(""),
    editProcess((given) => {
      const { rlimits: _, ...process } = given;
      return process;
    }),
  );

/** `SLICE:PREFIX:NAME` is what runtimes make a scope of, under systemd. */
export function cgroupsPath(parent: string, id: string): string {
  const base = basename(parent);
  return base.endsWith(".slice") ? `${base}:cri-containerd:${id}` : join(parent, id);
}

function withPodNamespaces({ config, netnsPath, paths, mappings }: SandboxSpecInput): SpecOption {
  const { network, pid, ipc } = config.security;
  return (spec) =>
    applyOptions(
      spec,
      ...(network === "node"
        ? [withHostNamespace("network"), withHostNamespace("uts")]
        : [withNamespace({ type: "network", ...(netnsPath !== "" && { path: netnsPath }) })]),
      ...(pid === "node" ? [withHostNamespace("pid")] : []),
      ...(ipc === "node" ? [withHostNamespace("ipc")] : []),
      ...(mappings ? [withUserNamespace(mappings)] : []),
      // The network was made in that user namespace, whose id nobody else could give.
      ...(mappings && network !== "node" && netnsPath !== ""
        ? [withNamespace({ type: "user", path: paths.userNamespace })]
        : []),
    );
}

function withPodMounts({ config, paths, mappings }: SandboxSpecInput): SpecOption {
  const bind = (source: string, destination: string, options = bindOptions): SpecMount => {
    return { source, destination, type: "bind", options };
  };
  const shm = config.security.ipc === "node" ? devShm : paths.shm;
  const mounts = [bind(shm, devShm), bind(paths.resolvConf, "/etc/resolv.conf")];
  if (!mappings || !hasHostNetwork(config)) return withMounts(mounts);
  // sysfs belongs to the network namespace, and this one's owner is not the pod.
  const sys = bind("/sys", "/sys", ["rbind", "rro", "nosuid", "nodev", "noexec"]);
  return (spec) => applyOptions(spec, withoutMounts(["/sys"]), withMounts([...mounts, sys]));
}

function withGroups(groups: readonly bigint[]): SpecOption {
  if (groups.length === 0) return unchanged;
  return editProcess((process) => {
    const all = new Set([...(process.user?.additionalGids ?? []), ...groups.map(Number)]);
    const additionalGids = [...all].toSorted((a, b) => a - b);
    return { ...process, user: { ...process.user, additionalGids } };
  });
}

/** What a pod of its own network may do without privilege, unless it says otherwise. */
function withPodSysctls(input: SandboxSpecInput): SpecOption {
  const { config, mappings } = input;
  const isOwn = !hasHostNetwork(config);
  const sysctls = {
    ...(isOwn && input.unprivilegedPorts && { "net.ipv4.ip_unprivileged_port_start": "0" }),
    // Groups that the namespace does not map cannot be named in it.
    ...(isOwn &&
      input.unprivilegedIcmp &&
      !mappings && { "net.ipv4.ping_group_range": "0 2147483647" }),
    ...config.sysctls,
  };
  return Object.keys(sysctls).length === 0 ? unchanged : withSysctls(sysctls);
}

function specAnnotations(input: SandboxSpecInput): Readonly<Record<string, string>> {
  const { id, config, imageName, podAnnotations } = input;
  const { metadata, resources, logDirectory } = config;
  const passed = Object.entries(config.annotations).filter(([key]) =>
    podAnnotations.some((pattern) => matchesPattern(pattern, key)),
  );
  return {
    ...(resources && {
      [annotations.sandboxCpuPeriod]: String(resources.cpuPeriod),
      [annotations.sandboxCpuQuota]: String(resources.cpuQuota),
      [annotations.sandboxCpuShares]: String(resources.cpuShares),
      [annotations.sandboxMemory]: String(resources.memoryLimitBytes),
    }),
    ...Object.fromEntries(passed),
    // Last: they say whose container it is.
    [annotations.sandboxId]: id,
    [annotations.sandboxNamespace]: metadata.namespace,
    [annotations.sandboxUid]: metadata.uid,
    [annotations.sandboxName]: metadata.name,
    [annotations.sandboxLogDirectory]: logDirectory,
    [annotations.sandboxImageName]: imageName,
    [annotations.containerType]: sandboxKind,
  };
}

const withWritableSys: SpecOption = (spec) => ({
  ...spec,
  mounts: (spec.mounts ?? []).map((mount) =>
    normalize(mount.destination) === "/sys" && mount.options
      ? { ...mount, options: mount.options.map((option) => (option === "ro" ? "rw" : option)) }
      : mount,
  ),
});

/** The score of who is killed last, or the daemon's own where it may not go below that. */
export function sandboxOomScoreAdj({
  restrictTo,
}: {
  readonly restrictTo: number | undefined;
}): number {
  const last = -998;
  return restrictTo === undefined ? last : Math.max(last, restrictTo);
}
