import { isTable } from "#pkg/plugin/table.ts";

/** Of CRI as one plugin, up to version 2 of the configuration; its directories still have the name. */
export const formerCriUri = "io.containerd.grpc.v1.cri";

type Table = Readonly<Record<string, unknown>>;

/** What version 2 kept in one section moves to two; a key that the new one has already stays. */
export function migrateImagesSection(
  _fromVersion: number,
  sections: Record<string, unknown>,
): void {
  const former = sections[formerCriUri];
  if (!isTable(former)) return;
  const uri = "io.containerd.cri.v1.images";
  const section = tableOf(sections[uri]);
  const { sandbox_image: sandbox, registry } = former;
  const { snapshotter } = tableOf(former["containerd"]);
  sections[uri] = {
    ...(snapshotter !== undefined && { snapshotter }),
    ...(registry !== undefined && { registry }),
    ...section,
    ...(sandbox !== undefined && {
      pinned_images: { sandbox, ...tableOf(section["pinned_images"]) },
    }),
  };
}

const runtimeKeys = [
  "restrict_oom_score_adj",
  "unset_seccomp_profile",
  "enable_unprivileged_ports",
  "enable_unprivileged_icmp",
];

export function migrateRuntimeSection(
  _fromVersion: number,
  sections: Record<string, unknown>,
): void {
  const former = sections[formerCriUri];
  if (!isTable(former)) return;
  const uri = "io.containerd.cri.v1.runtime";
  const section = tableOf(sections[uri]);
  const moved = Object.entries(former).filter(([key]) => runtimeKeys.includes(key));
  const containerd = {
    ...pick(tableOf(former["containerd"]), ["default_runtime_name", "runtimes"]),
    ...tableOf(section["containerd"]),
  };
  sections[uri] = {
    ...Object.fromEntries(moved),
    ...section,
    ...(Object.keys(containerd).length > 0 && { containerd }),
  };
}

function pick(table: Table, keys: readonly string[]): Table {
  return Object.fromEntries(Object.entries(table).filter(([key]) => keys.includes(key)));
}

function tableOf(value: unknown): Table {
  return isTable(value) ? value : {};
}
