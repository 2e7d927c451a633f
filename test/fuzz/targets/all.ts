import type { FuzzTarget } from "#test/fuzz/target.ts";

/** Loaded when it is run: each target's process should not wait for the modules of the others. */
const targets: Readonly<Record<string, () => Promise<{ readonly target: FuzzTarget }>>> = {
  Apply: () => import("#test/fuzz/targets/apply.ts"),
  ArchiveExport: () => import("#test/fuzz/targets/archive-export.ts"),
  CdiSpec: () => import("#test/fuzz/targets/cdi-spec.ts"),
  ContainerdImport: () => import("#test/fuzz/targets/containerd-import.ts"),
  ContainerStore: () => import("#test/fuzz/targets/container-store.ts"),
  ContentStore: () => import("#test/fuzz/targets/content-store.ts"),
  ContentStoreWriter: () => import("#test/fuzz/targets/content-store-writer.ts"),
  ConvertManifest: () => import("#test/fuzz/targets/convert-manifest.ts"),
  CSWalk: () => import("#test/fuzz/targets/cs-walk.ts"),
  DecompressStream: () => import("#test/fuzz/targets/decompress-stream.ts"),
  DiffApply: () => import("#test/fuzz/targets/diff-apply.ts"),
  DiffCompare: () => import("#test/fuzz/targets/diff-compare.ts"),
  Exchange: () => import("#test/fuzz/targets/exchange.ts"),
  Fetcher: () => import("#test/fuzz/targets/fetcher.ts"),
  FiltersParse: () => import("#test/fuzz/targets/filters-parse.ts"),
  ImagesCheck: () => import("#test/fuzz/targets/images-check.ts"),
  ImageStore: () => import("#test/fuzz/targets/image-store.ts"),
  ImportIndex: () => import("#test/fuzz/targets/import-index.ts"),
  IntegCreateContainer: () => import("#test/fuzz/targets/integ-create-container.ts"),
  LeaseManager: () => import("#test/fuzz/targets/lease-manager.ts"),
  LoadDefaultProfile: () => import("#test/fuzz/targets/load-default-profile.ts"),
  MountActivate: () => import("#test/fuzz/targets/mount-activate.ts"),
  ParseAuth: () => import("#test/fuzz/targets/parse-auth.ts"),
  ParseAuthHeader: () => import("#test/fuzz/targets/parse-auth-header.ts"),
  ParseHostsFile: () => import("#test/fuzz/targets/parse-hosts-file.ts"),
  ParseProcPIDStatus: () => import("#test/fuzz/targets/parse-proc-pid-status.ts"),
  ParseReference: () => import("#test/fuzz/targets/parse-reference.ts"),
  ParseSpec: () => import("#test/fuzz/targets/parse-spec.ts"),
  ResolveUser: () => import("#test/fuzz/targets/resolve-user.ts"),
  SendAndReceive: () => import("#test/fuzz/targets/send-and-receive.ts"),
};

export const targetNames: readonly string[] = Object.keys(targets);

export async function loadTarget(name: string): Promise<FuzzTarget> {
  const load = targets[name];
  if (!load) throw new Error(`no fuzz target ${name}`);
  const { target } = await load();
  if (target.name !== name) throw new Error(`${name} calls itself ${target.name}`);
  return target;
}
