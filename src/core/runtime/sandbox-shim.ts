import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { SandboxRef } from "#core/runtime/runtime.ts";
import type { ShimRecords } from "#core/runtime/shim-record.ts";
import type { SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, isNotFound, notFound } from "#pkg/errors.ts";

/** Shims of an older version have to be started for each container, also where they group them. */
const groupingVersion = 3;

/**
 * How to reach the shim of a sandbox for one more task, with what that shim said it can do.
 *
 * Undefined when the task's own shim is to be started: the sandbox is not on record (it was made by
 * an old client), or its shim is of an older version. Throws `not-found` when the sandbox has no
 * shim.
 */
export async function sandboxBootstrap(
  ctx: Context,
  manager: {
    readonly records: Pick<ShimRecords, "get">;
    readonly options: { readonly sandboxes: Pick<SandboxStore, "get"> };
  },
  namespace: string,
  sandbox: SandboxRef,
): Promise<BootstrapResult | undefined> {
  try {
    await manager.options.sandboxes.get(ctx, sandbox.id);
  } catch (error) {
    if (!isNotFound(error)) throw error;
    ctx.logger.warn(`sandbox (id=${sandbox.id}) not found, maybe created from v1.x`);
    return undefined;
  }
  const live = manager.records.get(namespace, sandbox.id)?.link.bootstrap;
  const bootstrap = sandbox.address === "" ? live : addressed(sandbox, live);
  if (!bootstrap) throw notFound(`can't find shim for sandbox ${sandbox.id}`);
  return bootstrap.version < groupingVersion ? undefined : bootstrap;
}

function addressed(
  { address, version }: SandboxRef,
  live: BootstrapResult | undefined,
): BootstrapResult {
  const plus = address.indexOf("+");
  if (plus < 0) {
    throw new CodedError(
      "unknown",
      "the scheme of sandbox address should be in  the form of <protocol>+<unix|vsock|tcp>, " +
        "i.e. ttrpc+unix or grpc+vsock",
    );
  }
  return {
    version,
    protocol: address.slice(0, plus),
    address: address.slice(plus + 1),
    capabilities: [],
    metadata: {},
    // The sandboxer gives the address alone; what the shim can do is known from its start.
    extensions: live?.extensions ?? [],
  };
}
