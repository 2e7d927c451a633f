import type { ContainerStore } from "#core/containers/containers.ts";
import type { LeaseManager } from "#core/leases/leases.ts";
import type { Mounter } from "#core/mount/mounter.ts";
import type { NamespaceStore } from "#core/namespaces/namespaces.ts";
import type { TaskRuntime } from "#core/runtime/runtime.ts";
import type { SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { CriImagesConfig, CriRuntimeConfig } from "#cri/config.ts";
import type { SandboxFiles } from "#cri/podsandbox/sandbox-files.ts";
import type { SandboxImageParts } from "#cri/sandbox-image.ts";
import type { Context } from "#pkg/context.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** What the controller of pods' sandboxes stands on. */
export interface PodSandboxParts {
  /** That of the daemon: sandboxes are watched as long. */
  readonly lifetime: Context;
  readonly namespaces: Pick<NamespaceStore, "list">;
  readonly containers: ContainerStore;
  readonly sandboxes: Pick<SandboxStore, "get">;
  readonly leases: LeaseManager;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
  readonly images: SandboxImageParts;
  readonly runtime: TaskRuntime;
  readonly files: SandboxFiles;
  readonly mounter: Mounter;
  readonly sys: Syscalls;
  readonly host: SandboxHost;
  readonly runtimeConfig: CriRuntimeConfig;
  readonly imagesConfig: CriImagesConfig;
  readonly failpoints: Failpoints;
  /** How long undoing may take, one thing at a time. */
  readonly cleanupTimeoutMs: number;
}

/** What is asked of the machine. */
export interface SandboxHost {
  /** The daemon's own. */
  oomScoreAdj(): Promise<number>;
  maskedPaths(): Promise<readonly string[]>;
  hasSeccomp(): Promise<boolean>;
  isInUserNamespace(): Promise<boolean>;
}
