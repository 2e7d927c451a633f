import type { Task, TaskRuntime } from "#core/runtime/runtime.ts";
import type { SandboxExit } from "#core/sandbox/sandbox.ts";
import { endTask } from "#cri/podsandbox/end-task.ts";
import { type PodSandbox, unknownExitStatus } from "#cri/podsandbox/pod-sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { pause } from "#pkg/retry.ts";
import { nowNanos } from "#pkg/time.ts";

/** One deletion; a shim that hangs is asked again later. */
const deleteTimeoutMs = 10_000;
const backoffMinMs = 1_000;
const backoffMaxMs = 300_000;

/**
 * Deletes a sandbox's task when it has ended, and then tells that it has. Ends with `ctx`; throws
 * nothing.
 */
export async function watchExit(
  ctx: Context,
  runtime: Pick<TaskRuntime, "get" | "delete">,
  { sandbox, task }: { readonly sandbox: PodSandbox; readonly task: Task },
): Promise<void> {
  const { id } = sandbox;
  let exit: SandboxExit;
  try {
    exit = await task.wait(ctx, "");
  } catch (error) {
    if (ctx.signal.aborted) return;
    ctx.logger.error("failed to get task exit status of a sandbox", { id, error });
    exit = { exitStatus: unknownExitStatus, exitedAt: nowNanos() };
  }
  ctx.logger.info("sandbox has exited", { id, exitStatus: exit.exitStatus });
  for (let waitMs = backoffMinMs; ; waitMs = Math.min(waitMs * 2, backoffMaxMs)) {
    try {
      await endTask(ctx.withTimeout(deleteTimeoutMs), runtime, id);
      sandbox.end(exit);
      return;
    } catch (error) {
      if (ctx.signal.aborted) return;
      ctx.logger.error("failed to delete the task of a sandbox, will try again", { id, error });
    }
    try {
      await pause(ctx, waitMs);
    } catch {
      return; // -- the daemon stops; the next one finds the sandbox again
    }
  }
}
