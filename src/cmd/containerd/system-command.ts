import { stat } from "node:fs/promises";
import { join } from "node:path";
import { BackendSizes } from "#cmd/containerd/backend-sizes.ts";
import { commandHost } from "#cmd/containerd/command-host.ts";
import type { Config } from "#cmd/containerd/config/config.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { type Holding, holdingsOf } from "#core/metadata/holdings.ts";
import { findKept, type Keeper, keepersOf, type Kept } from "#core/metadata/keepers.ts";
import { notFound } from "#pkg/errors.ts";
import { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";

// Both read the database beside the daemon that has it open, or without one.

/** `system df`: what is stored, what of it nothing keeps, and what that takes on the disk. */
export async function usageText(flags: Flags): Promise<string> {
  const config = await commandHost(flags, "error").configuration();
  using db = await openDatabase(config);
  const sizes = new BackendSizes(config);
  const rows: string[][] = [["NAMESPACE", "KIND", "COUNT", "SIZE", "NOT KEPT", "SIZE"]];
  for (const holding of await holdingsOf(db, Date.now())) rows.push(await rowOf(holding, sizes));
  const disk = (await sizes.onDisk()).map(
    ({ what, bytes }) => `${what.padEnd(12)}${formatSize(bytes)}`,
  );
  return [...tableLines(rows), "", "on the disk, what namespaces share once:", ...disk, ""].join(
    "\n",
  );
}

/** `system why`: every root that keeps what goes by this name, and by which way. Throws `not-found`. */
export async function whyText(name: string, flags: Flags): Promise<string> {
  using db = await openDatabase(await commandHost(flags, "error").configuration());
  const found = findKept(db, name);
  if (found.length === 0) throw notFound(`${JSON.stringify(name)}: nothing of that name is stored`);
  const nowMs = Date.now();
  return found.map((kept) => explained(kept, keepersOf(db, kept, nowMs))).join("\n");
}

async function openDatabase({ root }: Config): Promise<ReadSnapshot> {
  const path = join(root, "io.containerd.metadata.v1.bolt/meta.sqlite");
  // To open what is not there would make it.
  await stat(path);
  return new ReadSnapshot(path);
}

async function rowOf(
  { namespace, kind, objects }: Holding,
  sizes: BackendSizes,
): Promise<string[]> {
  let count = 0;
  let total: number | undefined = 0;
  let garbage = 0;
  let garbageBytes: number | undefined = 0;
  for (const held of objects) {
    const bytes = held.sizeBytes ?? (await sizes.of(kind, held.backendKey));
    count++;
    total = sum(total, bytes);
    if (!held.isGarbage) continue;
    garbage++;
    garbageBytes = sum(garbageBytes, bytes);
  }
  return [namespace, kind, `${count}`, formatSize(total), `${garbage}`, formatSize(garbageBytes)];
}

function sum(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a + b;
}

function explained(kept: Kept, keepers: readonly Keeper[]): string {
  const lines = [`${kept.namespace}: ${kept.kind} ${kept.key}`];
  if (keepers.length === 0) lines.push("  is kept by nothing: the next collection takes it");
  for (const { reason, path } of keepers) {
    const [root = kept, ...rest] = path;
    if (reason.kind === "object" && rest.length === 0) {
      lines.push("  is kept until somebody deletes it");
      continue;
    }
    const names = reason.kind === "lease" ? path : rest;
    lines.push(`  is kept by ${reasonText(reason, root)}`);
    lines.push(...names.slice(0, -1).map(({ kind, key }) => `    through ${kind} ${key}`));
  }
  return `${lines.join("\n")}\n`;
}

function reasonText(reason: Keeper["reason"], root: Kept): string {
  const object = `${root.kind} ${root.key}`;
  if (reason.kind === "label") return `the label containerd.io/gc.root of ${object}`;
  if (reason.kind === "object") return object;
  const { name, untilMs } = reason;
  const until =
    untilMs === undefined ? "which does not expire" : `until ${new Date(untilMs).toISOString()}`;
  return `lease ${name}, ${until}`;
}

function tableLines(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** As `ctr` writes sizes. */
function formatSize(bytes: number | undefined): string {
  if (bytes === undefined) return "-";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
