import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { TaskProxy } from "#core/runtime/task-proxy.ts";
import type { Context } from "#pkg/context.ts";
import type { Transport } from "#pkg/rpc/service.ts";

/**
 * The way to the task service of one bundle's shim: a connection of its own, or a share in a
 * supervisor's.
 *
 * Calls of both kinds throw what the shim says, and `unavailable` when it is lost.
 */
export interface ShimLink {
  /** As the bundle's `bootstrap.json` keeps it. */
  readonly bootstrap: BootstrapResult;
  /** For what a shim may serve beside tasks; undefined where that is nothing. */
  readonly services: Transport | undefined;
  /** Makes a call once: whether it was done is unknown when the shim is lost in the middle. */
  call<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T>;
  /** Makes a call that changes nothing: once more on a successor, where the shim has one. */
  ask<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T>;
  /**
   * True where a failed create leaves nothing behind; Go's shims may leave a process of their
   * runtime's.
   */
  readonly rollsBack: boolean;
  /** True once no call can succeed any more. */
  readonly isLost: boolean;
  /** Goes on with the next older task service; false when there is none. */
  downgrade(): boolean;
  /**
   * Tells the shim that the task is gone: it ends after its last. A shim that is lost already is no
   * failure.
   */
  shutdown(ctx: Context): Promise<void>;
  /** Gives the link up; its loss is reported to nobody any more. Twice is once. */
  close(): Promise<void>;
}
