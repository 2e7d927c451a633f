import type { FuzzTarget } from "#test/fuzz/target.ts";

/** Loaded when it is run: each target's process should not wait for the modules of the others. */
const targets: Readonly<Record<string, () => Promise<{ readonly target: FuzzTarget }>>> = {
  CdiSpec: () => import("#test/fuzz/targets/cdi-spec.ts"),
  ContainerStore: () => import("#test/fuzz/targets/container-store.ts"),
  ContentStore: () => import("#test/fuzz/targets/content-store.ts"),
  ContentStoreWriter: () => import("#test/fuzz/targets/content-store-writer.ts"),
  CSWalk: () => import("#test/fuzz/targets/cs-walk.ts"),
  Exchange: () => import("#test/fuzz/targets/exchange.ts"),
  FiltersParse: () => import("#test/fuzz/targets/filters-parse.ts"),
  ImageStore: () => import("#test/fuzz/targets/image-store.ts"),
  IntegCreateContainer: () => import("#test/fuzz/targets/integ-create-container.ts"),
  LeaseManager: () => import("#test/fuzz/targets/lease-manager.ts"),
  ParseProcPIDStatus: () => import("#test/fuzz/targets/parse-proc-pid-status.ts"),
  ParseSpec: () => import("#test/fuzz/targets/parse-spec.ts"),
  ResolveUser: () => import("#test/fuzz/targets/resolve-user.ts"),
};

export const targetNames: readonly string[] = Object.keys(targets);

export async function loadTarget(name: string): Promise<FuzzTarget> {
  const load = targets[name];
  if (!load) throw new Error(`no fuzz target ${name}`);
  const { target } = await load();
  if (target.name !== name) throw new Error(`${name} calls itself ${target.name}`);
  return target;
}
