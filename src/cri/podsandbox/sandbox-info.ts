import type { Container } from "#core/containers/containers.ts";
import { hasHostNetwork } from "#cri/pod-sandbox-config.ts";
import type { PodSandboxParts } from "#cri/podsandbox/parts.ts";
import type { PodSandbox } from "#cri/podsandbox/pod-sandbox.ts";
import { runtimeOptionsJson } from "#cri/podsandbox/runtime-options-convert.ts";
import { metadataJson } from "#cri/sandbox-metadata-convert.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound } from "#pkg/errors.ts";
import { formatLossless, parseLossless } from "#pkg/lossless-json.ts";

/** What `crictl inspectp` shows of a sandbox beside its status: one JSON object, with CRI's keys. */
export async function sandboxInfo(
  ctx: Context,
  parts: PodSandboxParts,
  sandbox: PodSandbox,
): Promise<Readonly<Record<string, string>>> {
  const { metadata, pid } = sandbox;
  const container = sandbox.hasContainer ? await find(ctx, parts, sandbox) : undefined;
  const hasNetwork = !hasHostNetwork(metadata.config);
  const info = {
    pid,
    // A task that is gone, or never was.
    processStatus: (container && (await processStatus(ctx, parts, sandbox))) || "deleted",
    netNamespaceClosed: hasNetwork && !(await parts.files.isNamespace(metadata.netnsPath)),
    image: container?.image ?? "",
    snapshotKey: container?.snapshotKey ?? "",
    snapshotter: container?.snapshotter ?? "",
    runtimeType: container?.runtime.name ?? "",
    runtimeOptions: runtimeOptionsJson(container?.runtime.options),
    config: metadata.configJson,
    runtimeSpec: container?.spec ? parseLossless(textOf(container.spec.value), "spec") : null,
    cniResult: metadata.cniResult,
    sandboxMetadata: metadataJson(metadata),
  };
  return { info: formatLossless(info) };
}

async function find(
  ctx: Context,
  { containers }: PodSandboxParts,
  { id }: PodSandbox,
): Promise<Container | undefined> {
  try {
    return await containers.get(ctx, id);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function processStatus(
  ctx: Context,
  { runtime }: PodSandboxParts,
  { id }: PodSandbox,
): Promise<string | undefined> {
  try {
    const task = await runtime.get(ctx, id);
    return (await task.state(ctx, "")).status;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
