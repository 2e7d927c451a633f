import type { ProcessExit, TaskRuntime } from "#core/runtime/runtime.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound, messageOf, wrap } from "#pkg/errors.ts";

const SIGKILL = 9;

/**
 * Ends every process of a task and deletes it; undefined where there was none.
 *
 * Waits for the end as long as `ctx` lets it.
 */
export async function endTask(
  ctx: Context,
  runtime: Pick<TaskRuntime, "get" | "delete">,
  id: string,
): Promise<ProcessExit | undefined> {
  let problem: unknown;
  try {
    const task = await runtime.get(ctx, id);
    const ended = task.wait(ctx, "");
    ended.catch(() => {}); // -- awaited below, unless killing fails first
    await task.kill(ctx, { execId: "", signal: SIGKILL, all: true });
    await ended;
  } catch (error) {
    // One that has ended cannot be killed; the deletion tells whether it had.
    ctx.throwIfEnded();
    problem = error;
  }
  try {
    return await runtime.delete(ctx, id);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    if (problem === undefined) throw error;
    throw wrap(`failed to kill (${messageOf(problem)})`, error);
  }
}

/** Ends the first process of a task, if it is there and has not ended. */
export async function killTask(
  ctx: Context,
  runtime: Pick<TaskRuntime, "get">,
  id: string,
): Promise<void> {
  try {
    const task = await runtime.get(ctx, id);
    await task.kill(ctx, { execId: "", signal: SIGKILL, all: false });
  } catch (error) {
    if (!isNotFound(error)) throw wrap("failed to kill pod sandbox container", error);
  }
}
