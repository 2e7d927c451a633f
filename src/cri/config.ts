import type { CriRoots } from "#cri/podsandbox/sandbox-paths.ts";
import { hasHostAccess, type PodSandboxConfig } from "#cri/pod-sandbox-config.ts";
import { annotations } from "#cri/annotations.ts";
import { CodedError, invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";

/** How pods of a RuntimeClass are run; the names of the configuration's keys say the same. */
export interface CriRuntime {
  /** `io.containerd.runc.v2` */
  readonly type: string;
  /** Of a shim, instead of what the type names; empty where there is none. */
  readonly path: string;
  /** Patterns of the annotations of pods that go into the specifications. */
  readonly podAnnotations: readonly string[];
  /** Empty: that of images. */
  readonly snapshotter: string;
  readonly sandboxer: string;
  /** Somebody else sees to the image of sandboxes. */
  readonly disablePauseImagePull: boolean;
}

/** Of `io.containerd.cri.v1.runtime`. */
export interface CriRuntimeConfig {
  readonly kind: "runtime";
  readonly defaultRuntimeName: string;
  readonly runtimes: ReadonlyMap<string, CriRuntime>;
  readonly restrictOomScoreAdj: boolean;
  readonly unsetSeccompProfile: string;
  readonly enableUnprivilegedPorts: boolean;
  readonly enableUnprivilegedIcmp: boolean;
  readonly roots: CriRoots;
}

/** Of `io.containerd.cri.v1.images`. */
export interface CriImagesConfig {
  readonly kind: "images";
  readonly snapshotter: string;
  /** Images that are kept for the daemon's own use, by what for: `sandbox`. */
  readonly pinnedImages: ReadonlyMap<string, string>;
}

/** What the parts of CRI know of the configuration, by id. */
export type CriConfig = CriRuntimeConfig | CriImagesConfig;

/** Of the parts by id, which has the other part's type too. Throws `internal` for that one. */
export function assertKind<K extends CriConfig["kind"]>(
  config: CriConfig,
  kind: K,
): asserts config is Extract<CriConfig, { kind: K }> {
  if (config.kind !== kind) throw new CodedError("internal", `CRI: ${config.kind} is no ${kind}`);
}

export const defaultSandboxImage = "registry.k8s.io/pause:3.10.2";

/** The image of sandboxes' containers, as configured. */
export function sandboxImageName({ pinnedImages }: CriImagesConfig): string {
  return pinnedImages.get("sandbox") || defaultSandboxImage;
}

const untrusted = "untrusted";

/**
 * How a pod is run: by its handler, the one for untrusted workloads where it says that it is such,
 * else the default.
 *
 * Throws `invalid-argument` for an untrusted one that wants more than that.
 */
export function sandboxRuntime(
  { runtimes, defaultRuntimeName }: CriRuntimeConfig,
  config: PodSandboxConfig,
  runtimeHandler: string,
): CriRuntime {
  let name = runtimeHandler === "" ? defaultRuntimeName : runtimeHandler;
  if (config.annotations[annotations.untrustedWorkload] === "true") {
    if (runtimeHandler !== "" && runtimeHandler !== untrusted) {
      throw invalidArgument("untrusted workload with explicit runtime handler is not allowed");
    }
    if (hasHostAccess(config)) {
      throw invalidArgument("untrusted workload with host access is not allowed");
    }
    name = untrusted;
  }
  const runtime = runtimes.get(name);
  // Without a class, as upstream.
  if (!runtime) throw new CodedError("unknown", `no runtime for ${quote(name)} is configured`);
  return runtime;
}
