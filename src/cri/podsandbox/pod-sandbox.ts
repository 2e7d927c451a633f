import type { SandboxExit } from "#core/sandbox/sandbox.ts";
import type { SandboxMetadata } from "#cri/sandbox-metadata.ts";
import type { Any } from "#pkg/any.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";

/** `created -> starting -> ready -> ended`; a start that fails leads back to the first. */
export type PodSandboxPhase = "created" | "starting" | "ready" | "ended";

/** Of whom nobody saw how it ended. */
export const unknownExitStatus = 255;

/** What the controller knows of one sandbox. */
export class PodSandbox {
  readonly id: string;
  readonly namespace: string;
  readonly metadata: SandboxMetadata;
  /** Of its runtime, as its creator gave them. */
  readonly runtimeOptions: Any | undefined;
  phase: PodSandboxPhase = "created";
  /** Whether a container is on record that is ours to remove. */
  hasContainer = false;
  /** Under way: everybody who asks for it waits for the same. */
  removal: Promise<void> | undefined;
  #pid = 0;
  #createdAt: UnixNanos | undefined;
  #exit: SandboxExit | undefined;
  readonly #ended = Promise.withResolvers<SandboxExit>();

  constructor(
    ctx: Context,
    { metadata, runtimeOptions }: Pick<PodSandbox, "metadata" | "runtimeOptions">,
  ) {
    this.id = metadata.id;
    this.namespace = requireNamespace(ctx);
    this.metadata = metadata;
    this.runtimeOptions = runtimeOptions;
  }

  get pid(): number {
    return this.#pid;
  }

  get createdAt(): UnixNanos | undefined {
    return this.#createdAt;
  }

  get exit(): SandboxExit | undefined {
    return this.#exit;
  }

  /** Resolves when it has ended, or is removed without ever having run. */
  get ended(): Promise<SandboxExit> {
    return this.#ended.promise;
  }

  ready(pid: number, createdAt: UnixNanos): void {
    this.phase = "ready";
    this.#pid = pid;
    this.#createdAt = createdAt;
  }

  /** The first time counts. */
  end(exit: SandboxExit = { exitStatus: unknownExitStatus, exitedAt: nowNanos() }): void {
    if (this.#exit) return;
    this.phase = "ended";
    this.#pid = 0;
    this.#exit = exit;
    this.#ended.resolve(exit);
  }

  /** As a container on record says. */
  found(createdAt: UnixNanos): void {
    this.hasContainer = true;
    this.#createdAt = createdAt;
  }
}

/** As CRI names it; one whose start has not come to its end is neither. */
export function stateOf({ phase }: PodSandbox): string {
  switch (phase) {
    case "created":
    case "starting":
      return "SANDBOX_UNKNOWN";
    case "ready":
      return "SANDBOX_READY";
    case "ended":
      return "SANDBOX_NOTREADY";
  }
}
