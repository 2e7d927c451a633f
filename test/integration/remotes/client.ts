import { RegistryResolver, type RegistryResolverOptions } from "#core/remotes/resolver.ts";
import { Transports, type TransportsOptions } from "#core/remotes/transports.ts";
import { Context } from "#pkg/context.ts";
import type { LogFields, Logger } from "#pkg/log.ts";

export interface TestClient extends AsyncDisposable {
  readonly ctx: Context;
  readonly resolver: RegistryResolver;
  /** Every line that was logged, with its fields. */
  readonly log: readonly string[];
}

/** A registry client that gives up soon, as configured. */
export function startClient(
  options: Omit<RegistryResolverOptions, "transports"> & {
    readonly transports?: TransportsOptions;
    readonly signal?: AbortSignal;
  } = {},
): TestClient {
  const { transports: given, signal, ...rest } = options;
  const transports = new Transports({
    ...given,
    timeouts: { dialMs: 2_000, responseHeaderMs: 2_000, bodyIdleMs: 400, ...given?.timeouts },
  });
  const log: string[] = [];
  const ctx = Context.background({ logger: recorder(log), ...(signal && { signal }) });
  return {
    ctx,
    resolver: new RegistryResolver({ transports, ...rest }),
    log,
    [Symbol.asyncDispose]: () => transports[Symbol.asyncDispose](),
  };
}

function recorder(log: string[]): Logger {
  const add = (message: string, fields: LogFields = {}): void => {
    const shown = Object.entries(fields).map(([name, value]) => `${name}=${describe(value)}`);
    log.push([message, ...shown].join(" "));
  };
  return {
    trace: add,
    debug: add,
    info: add,
    warn: add,
    error: add,
    with: () => recorder(log),
  };
}

/** With all that hangs on an error: nothing of it may be secret either. */
function describe(value: unknown): string {
  if (!(value instanceof Error)) return JSON.stringify(value) ?? String(value);
  return `${value.stack ?? ""} ${describe(value.cause)}`;
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
