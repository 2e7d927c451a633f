import type { GoObject } from "#cri/go-json.ts";
import type { PodSandboxConfig } from "#cri/pod-sandbox-config.ts";

/**
 * What CRI knows of a pod's sandbox, kept as JSON: in the extension `metadata` of the sandbox's
 * record, and in one of its container's.
 */
export interface SandboxMetadata {
  readonly id: string;
  /** `NAME_NAMESPACE_UID_ATTEMPT`, by which pods are told apart. */
  readonly name: string;
  readonly config: PodSandboxConfig;
  /** The configuration whole, as it is kept and shown. */
  readonly configJson: GoObject;
  /** Empty with the host's network. */
  readonly netnsPath: string;
  readonly ip: string;
  readonly additionalIps: readonly string[];
  /** Of the pod's RuntimeClass; empty for the default. */
  readonly runtimeHandler: string;
  /** What the network's plugins answered, as it is kept and shown. */
  readonly cniResult: unknown;
  /** SELinux'. */
  readonly processLabel: string;
}
