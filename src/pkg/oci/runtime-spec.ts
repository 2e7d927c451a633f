import type { IdMapping, Int64, LinuxSpec } from "#pkg/oci/linux-spec.ts";

/** The newest version of the runtime specification whose fields are known here. */
export const specVersion = "1.3.0";

/** The type URL under which a specification travels: JSON, not protobuf. */
export const specTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/**
 * A specification of the OCI runtime (`config.json`) of a Linux container.
 *
 * Keys are those of its JSON. Nothing in it is ever changed: an option makes a new one, so that two
 * containers made from one default cannot see each other's environment (CVE-2021-21334). What comes
 * from outside is `unknown` until `parseSpec` has looked at it, and keeps the keys not named here.
 */
export interface OciSpec {
  readonly ociVersion: string;
  readonly root?: Root;
  readonly process?: Process;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly mounts?: readonly SpecMount[];
  readonly hooks?: Hooks;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: LinuxSpec;
}

export interface Root {
  /** Absolute, or below the bundle. */
  readonly path: string;
  readonly readonly?: boolean;
}

/** A process in a container: its first, or one of an exec. */
export interface Process {
  readonly terminal?: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user?: User;
  readonly args?: readonly string[];
  /** `KEY=value` each. */
  readonly env?: readonly string[];
  readonly cwd: string;
  readonly capabilities?: Capabilities;
  readonly rlimits?: readonly Rlimit[];
  readonly noNewPrivileges?: boolean;
  readonly apparmorProfile?: string;
  readonly oomScoreAdj?: number;
  readonly selinuxLabel?: string;
  readonly ioPriority?: { readonly class: string; readonly priority: number };
  readonly scheduler?: {
    readonly policy: string;
    readonly nice?: number;
    readonly priority?: number;
    readonly flags?: readonly string[];
    readonly runtime?: Int64;
    readonly deadline?: Int64;
    readonly period?: Int64;
  };
  readonly execCPUAffinity?: { readonly initial?: string; readonly final?: string };
}

/** Numbers inside the container; an absent one is 0. */
export interface User {
  readonly uid?: number;
  readonly gid?: number;
  readonly umask?: number;
  readonly additionalGids?: readonly number[];
  readonly username?: string;
}

/** `CAP_...` names by set. */
export interface Capabilities {
  readonly bounding?: readonly string[];
  readonly effective?: readonly string[];
  readonly inheritable?: readonly string[];
  readonly permitted?: readonly string[];
  readonly ambient?: readonly string[];
}

export interface Rlimit {
  /** `RLIMIT_NOFILE`, ... */
  readonly type: string;
  readonly hard: Int64;
  readonly soft: Int64;
}

export interface SpecMount {
  readonly destination: string;
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[];
  readonly uidMappings?: readonly IdMapping[];
  readonly gidMappings?: readonly IdMapping[];
}

export interface Hook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

/** Programs that the runtime starts on a container's way, in the order in which it comes to them. */
export interface Hooks {
  readonly prestart?: readonly Hook[];
  readonly createRuntime?: readonly Hook[];
  readonly createContainer?: readonly Hook[];
  readonly startContainer?: readonly Hook[];
  readonly poststart?: readonly Hook[];
  readonly poststop?: readonly Hook[];
}

export type HookName = keyof Hooks;
