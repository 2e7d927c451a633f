import type { Container } from "#core/containers/containers.ts";
import type { Task } from "#core/runtime/runtime.ts";
import { labels, sandboxKind } from "#cri/annotations.ts";
import type { PodSandboxController } from "#cri/podsandbox/controller.ts";
import { endTask } from "#cri/podsandbox/end-task.ts";
import type { PodSandboxParts } from "#cri/podsandbox/parts.ts";
import { PodSandbox } from "#cri/podsandbox/pod-sandbox.ts";
import { parseSandboxMetadata } from "#cri/sandbox-metadata-convert.ts";
import type { Context } from "#pkg/context.ts";
import { failedPrecondition, isNotFound, notFound } from "#pkg/errors.ts";
import { isIdentifier } from "#pkg/identifier.ts";

/** For one sandbox: one whose shim hangs must not hold up the others. */
const loadTimeoutMs = 10_000;
const togetherMax = 16;
const filter = [`labels."${labels.kind}"==${sandboxKind}`];

/**
 * Finds the sandboxes of the containers on record, with their tasks as far as these run, and
 * removes the files of those that nothing is on record of.
 *
 * One that cannot be made sense of is logged and left alone.
 */
export async function recoverSandboxes(
  ctx: Context,
  parts: PodSandboxParts,
  controller: Pick<PodSandboxController, "adopt">,
): Promise<void> {
  const known = new Set<string>();
  const namespaces = (await parts.namespaces.list(ctx)).map(({ name }) => ctx.withNamespace(name));
  for (const within of namespaces) {
    await endCutStarts(within, parts);
    const containers = [...(await parts.containers.list(within, filter))];
    for (const { id } of containers) known.add(id);
    const work = async (): Promise<void> => {
      for (let next = containers.pop(); next; next = containers.pop()) {
        await recover(within, parts, controller, next);
      }
    };
    await Promise.all(Array.from({ length: Math.min(togetherMax, containers.length) }, work));
  }
  for (const id of await parts.files.ids()) {
    if (!known.has(id)) await removeFiles(namespaces, parts, id);
  }
}

/** What they had made, and nothing refers to, goes: its names are free again. */
async function endCutStarts(ctx: Context, { leases }: PodSandboxParts): Promise<void> {
  for (const { id } of await leases.list(ctx, [`labels."${labels.sandboxStart}"`])) {
    try {
      await leases.delete(ctx, id, { sync: true });
    } catch (error) {
      ctx.logger.warn("failed to delete the lease of a sandbox's start", { lease: id, error });
    }
  }
}

async function recover(
  ctx: Context,
  parts: PodSandboxParts,
  controller: Pick<PodSandboxController, "adopt">,
  container: Container,
): Promise<void> {
  const { id } = container;
  let sandbox: PodSandbox;
  try {
    const extension = container.extensions[labels.sandboxMetadata];
    if (!extension) throw notFound(`metadata extension ${labels.sandboxMetadata}`);
    const metadata = parseSandboxMetadata(extension);
    if (metadata.id !== id) throw failedPrecondition(`metadata is of sandbox ${metadata.id}`);
    sandbox = new PodSandbox(ctx, { metadata, runtimeOptions: container.runtime.options });
  } catch (error) {
    ctx.logger.error("failed to load a sandbox", { id, error });
    return;
  }
  sandbox.found(container.createdAt);
  controller.adopt(sandbox, await runningTask(ctx.withTimeout(loadTimeoutMs), parts, sandbox));
}

/** The task as long as it runs; what does not is deleted, and the sandbox has ended. */
async function runningTask(
  ctx: Context,
  { runtime }: PodSandboxParts,
  sandbox: PodSandbox,
): Promise<Task | undefined> {
  const { id } = sandbox;
  try {
    const task = await runtime.get(ctx, id);
    const { status, pid } = await task.state(ctx, "");
    if (status === "running" || status === "paused" || status === "pausing") {
      sandbox.ready(pid, sandbox.createdAt ?? 0n);
      return task;
    }
    sandbox.end(await endTask(ctx, runtime, id));
  } catch (error) {
    if (isNotFound(error)) sandbox.end();
    else ctx.logger.error("failed to load a sandbox's status", { id, error });
  }
  return undefined;
}

async function removeFiles(
  namespaces: readonly Context[],
  { sandboxes, files }: PodSandboxParts,
  id: string,
): Promise<void> {
  // What is no id was not made here.
  if (!isIdentifier(id)) return;
  for (const ctx of namespaces) {
    try {
      await sandboxes.get(ctx, id);
      return;
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  const [ctx] = namespaces;
  try {
    await files.remove(id);
  } catch (error) {
    ctx?.logger.warn("failed to remove the files of a sandbox that is gone", { id, error });
  }
}
