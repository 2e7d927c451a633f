import { normalize } from "node:path/posix";
import { notFound } from "#pkg/errors.ts";
import type {
  IdMapping,
  LinuxNamespace,
  LinuxSpec,
  NamespaceType,
  SeccompProfile,
} from "#pkg/oci/linux-spec.ts";
import type { Hook, HookName, OciSpec, Process, Rlimit, SpecMount } from "#pkg/oci/runtime-spec.ts";

/**
 * One step in making a specification from another.
 *
 * Options are pure: what they need from the host (a user's number, a device's) is read first, by
 * the functions of `user.ts`, `devices.ts` and `#pkg/cdi`, and handed to them. Their order counts as
 * in upstream: a later one sees what earlier ones did.
 *
 *     const spec = applyOptions(defaultSpec({ namespace: "default", id: "web" }),
 *       withImageConfig(config, { args: [] }),
 *       withEnv(["MODE=production"]),
 *       withMemoryLimit(64 << 20),
 *     );
 */
export type SpecOption = (spec: OciSpec) => OciSpec;

export function applyOptions(spec: OciSpec, ...options: readonly SpecOption[]): OciSpec {
  return options.reduce((made, option) => option(made), spec);
}

/** The change of one part, which is empty where the specification has none. */
export function editProcess(edit: (process: Process) => Process): SpecOption {
  return (spec) => ({ ...spec, process: edit(spec.process ?? { cwd: "/" }) });
}

export function editLinux(edit: (linux: LinuxSpec) => LinuxSpec): SpecOption {
  return (spec) => ({ ...spec, linux: edit(spec.linux ?? {}) });
}

/** Sets variables; one without `=` is removed instead. */
export function withEnv(env: readonly string[]): SpecOption {
  return editProcess((process) => ({ ...process, env: mergeEnv(process.env ?? [], env) }));
}

/** Overrides take the place of what they override; the others follow in their order. */
export function mergeEnv(env: readonly string[], overrides: readonly string[]): string[] {
  const merged = [...env];
  const places = new Map(env.map((entry, i) => [nameOf(entry), i]));
  for (const entry of overrides) {
    const place = places.get(nameOf(entry));
    const value = entry.includes("=") ? entry : "";
    if (place !== undefined) merged[place] = value;
    else merged.push(value);
  }
  return merged.filter((entry) => entry !== "");
}

function nameOf(entry: string): string {
  const at = entry.indexOf("=");
  return at < 0 ? entry : entry.slice(0, at);
}

export function withArgs(args: readonly string[]): SpecOption {
  return editProcess((process) => ({ ...process, args }));
}

export function withCwd(cwd: string): SpecOption {
  return editProcess((process) => ({ ...process, cwd }));
}

/** A terminal, and what programs on it ask for. */
export function withTerminal(): SpecOption {
  return editProcess((process) => ({
    ...process,
    terminal: true,
    env: [...(process.env ?? []), "TERM=xterm"],
  }));
}

export function withConsoleSize(size: { width: number; height: number }): SpecOption {
  return editProcess((process) => ({ ...process, consoleSize: size }));
}

export function withHostname(hostname: string): SpecOption {
  return (spec) => ({ ...spec, hostname });
}

export function withDomainname(domainname: string): SpecOption {
  return (spec) => ({ ...spec, domainname });
}

/** Adds to those there are; the same key is replaced. */
export function withAnnotations(annotations: Readonly<Record<string, string>>): SpecOption {
  return (spec) => ({ ...spec, annotations: { ...spec.annotations, ...annotations } });
}

export function withMounts(mounts: readonly SpecMount[]): SpecOption {
  return (spec) => ({ ...spec, mounts: [...(spec.mounts ?? []), ...mounts] });
}

export function withoutMounts(destinations: readonly string[]): SpecOption {
  return (spec) => ({
    ...spec,
    mounts: (spec.mounts ?? []).filter(
      ({ destination }) => !destinations.includes(clean(destination)),
    ),
  });
}

/** A file of the host, where programs look for it: `/etc/hosts`, `/etc/resolv.conf`, ... */
export function withHostFile(path: string): SpecOption {
  const options = ["rbind", "ro"];
  return withMounts([{ destination: path, type: "bind", source: path, options }]);
}

/** Throws `not-found` when the specification has no `/dev/shm`. */
export function withDevShmSize(kilobytes: number): SpecOption {
  return (spec) => {
    const mounts = spec.mounts ?? [];
    const shm = mounts.find(
      ({ destination, source, type }) =>
        clean(destination) === "/dev/shm" && source === "shm" && type === "tmpfs",
    );
    if (!shm) throw notFound("no /dev/shm mount specified");
    const others = (shm.options ?? []).filter((option) => !option.startsWith("size="));
    const sized = { ...shm, options: [...others, `size=${kilobytes}k`] };
    return { ...spec, mounts: mounts.map((mount) => (mount === shm ? sized : mount)) };
  };
}

/** Mounts of the type become writable where they were read-only: `sysfs`, `cgroup`. */
export function withWritable(type: "sysfs" | "cgroup"): SpecOption {
  return (spec) => ({
    ...spec,
    mounts: (spec.mounts ?? []).map((mount) =>
      mount.type === type && mount.options
        ? { ...mount, options: mount.options.map((option) => (option === "ro" ? "rw" : option)) }
        : mount,
    ),
  });
}

export function withRootPath(path: string): SpecOption {
  return (spec) => ({ ...spec, root: { ...spec.root, path } });
}

export function withReadonlyRoot(): SpecOption {
  return (spec) => ({ ...spec, root: { path: "", ...spec.root, readonly: true } });
}

export function withRootPropagation(propagation: string): SpecOption {
  return editLinux((linux) => ({ ...linux, rootfsPropagation: propagation }));
}

/** Whether setuid programs and file capabilities may give more than the process has. */
export function withNewPrivileges(answer: "allowed" | "denied"): SpecOption {
  return editProcess((process) => ({ ...process, noNewPrivileges: answer === "denied" }));
}

/** Takes the place of the one of its type, or is added: a new namespace, or one that exists by its path. */
export function withNamespace(namespace: LinuxNamespace): SpecOption {
  return editLinux((linux) => {
    const all = linux.namespaces ?? [];
    const hasType = all.some(({ type }) => type === namespace.type);
    const namespaces = hasType
      ? all.map((given) => (given.type === namespace.type ? namespace : given))
      : [...all, namespace];
    return { ...linux, namespaces };
  });
}

/** The host's own namespace of that type. */
export function withHostNamespace(type: NamespaceType): SpecOption {
  return editLinux((linux) => ({
    ...linux,
    namespaces: (linux.namespaces ?? []).filter((given) => given.type !== type),
  }));
}

/** A user namespace; called again, it adds mappings. */
export function withUserNamespace(mappings: {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}): SpecOption {
  return editLinux((linux) => {
    const namespaces = linux.namespaces ?? [];
    const isThere = namespaces.some(({ type }) => type === "user");
    return {
      ...linux,
      namespaces: isThere ? namespaces : [...namespaces, { type: "user" }],
      uidMappings: [...(linux.uidMappings ?? []), ...mappings.uids],
      gidMappings: [...(linux.gidMappings ?? []), ...mappings.gids],
    };
  });
}

/** An empty path leaves the container in the cgroup of who starts it. */
export function withCgroupsPath(path: string): SpecOption {
  return editLinux((linux) => ({ ...linux, cgroupsPath: path }));
}

export function withMaskedPaths(paths: readonly string[]): SpecOption {
  return editLinux((linux) => ({ ...linux, maskedPaths: paths }));
}

export function withReadonlyPaths(paths: readonly string[]): SpecOption {
  return editLinux((linux) => ({ ...linux, readonlyPaths: paths }));
}

/** Adds to those there are; the same name is replaced. */
export function withSysctls(sysctls: Readonly<Record<string, string>>): SpecOption {
  return editLinux((linux) => ({ ...linux, sysctl: { ...linux.sysctl, ...sysctls } }));
}

/** Undefined: unconfined. */
export function withSeccomp(profile: SeccompProfile | undefined): SpecOption {
  return editLinux((linux) => {
    const { seccomp: _, ...others } = linux;
    return profile ? { ...others, seccomp: profile } : others;
  });
}

/** An empty one is none: a runtime would ask the kernel for a profile of that name. */
export function withApparmorProfile(name: string): SpecOption {
  return editProcess((process) => {
    const { apparmorProfile: _, ...others } = process;
    return name === "" ? others : { ...others, apparmorProfile: name };
  });
}

/** An empty one is none. */
export function withSelinuxLabel(label: string): SpecOption {
  return editProcess((process) => {
    const { selinuxLabel: _, ...others } = process;
    return label === "" ? others : { ...others, selinuxLabel: label };
  });
}

/** Takes the place of the one of its type, or is added. */
export function withRlimit(rlimit: Rlimit): SpecOption {
  return editProcess((process) => {
    const all = process.rlimits ?? [];
    const isThere = all.some(({ type }) => type === rlimit.type);
    const rlimits = isThere
      ? all.map((given) => (given.type === rlimit.type ? rlimit : given))
      : [...all, rlimit];
    return { ...process, rlimits };
  });
}

export function withOomScoreAdj(score: number): SpecOption {
  return editProcess((process) => ({ ...process, oomScoreAdj: score }));
}

/** Hooks of one name run in the order in which they were added. */
export function withHook(name: HookName, hook: Hook): SpecOption {
  return (spec) => ({
    ...spec,
    hooks: { ...spec.hooks, [name]: [...(spec.hooks?.[name] ?? []), hook] },
  });
}

function clean(path: string): string {
  const normal = normalize(path);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}
