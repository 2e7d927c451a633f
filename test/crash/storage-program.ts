import { writeSync } from "node:fs";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { isAlreadyExists, isNotFound } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints, parseFailpoints } from "#pkg/failpoint.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import { containerOf, imageOf } from "#test/integration/metadata/fixtures.ts";

/**
 * What a daemon does with its storage in a pull, a run and a removal, telling on stdout what it acknowledged. The tests
 * of this folder end it anywhere and look at what is left.
 *
 *     node storage-program.ts ROOT FIRST LAST
 *
 * `CONTAINERD_FAILPOINTS` as for the daemon; with `RECORD_FAILPOINTS` each one that is hit is told.
 */
export type Acknowledgement =
  | {
      readonly is: "here" | "leaving" | "gone";
      readonly what: "image" | "container";
      readonly i: number;
    }
  | { readonly is: "hit"; readonly failpoint: string }
  | { readonly is: "done" };

export const ctx: Context = inNamespace("crash");

export function layersOf(i: number): readonly string[] {
  return ["layer of all", `layer of ${i}`];
}

export const chainOf = (i: number, layer: number): string =>
  digestOf(
    layersOf(i)
      .slice(0, layer + 1)
      .join(),
  );

export async function pull(storage: DaemonStorage, i: number): Promise<void> {
  const { metadata } = storage;
  const labels = { "containerd.io/gc.expire": "2999-01-01T00:00:00Z" };
  const lease = await metadata.leases.create(ctx, { id: "", labels });
  const leased = ctx.withLease(lease.id);
  const refs: Record<string, string> = {};
  for (const [n, layer] of layersOf(i).entries()) {
    refs[`containerd.io/gc.ref.content.l.${n}`] = await bring(storage, leased, `${i}-${n}`, layer);
    await unpack(storage, leased, i, n);
  }
  const chain = { "containerd.io/gc.ref.snapshot.overlayfs": chainOf(i, 1) };
  const config = await bring(storage, leased, `${i}-config`, `config of ${i}`, chain);
  refs["containerd.io/gc.ref.content.config"] = config;
  await bring(storage, leased, `${i}-manifest`, `manifest of ${i}`, refs);
  const image = imageOf(`img-${i}`, `manifest of ${i}`);
  await metadata.images.create(leased, image).catch(async (error: unknown) => {
    if (!isAlreadyExists(error)) throw error;
    await metadata.images.update(leased, image);
  });
  await metadata.leases.delete(ctx, lease.id, { sync: i % 2 === 1 });
}

async function bring(
  { metadata }: DaemonStorage,
  at: Context,
  ref: string,
  text: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<Digest> {
  const expected = digestOf(text);
  try {
    await using writer = await metadata.content.writer(at, { ref, expected });
    const { offset } = writer.status();
    const half = Buffer.from(text).subarray(offset, Math.max(offset, text.length / 2));
    await writer.write(half);
    await writer.write(Buffer.from(text).subarray(offset + half.length));
    await writer.commit(at, { expected, labels });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    await metadata.content.update(at, { digest: expected, labels });
  }
  return expected;
}

async function unpack(storage: DaemonStorage, at: Context, i: number, n: number): Promise<void> {
  const chain = chainOf(i, n);
  const key = `extract-${process.pid}-${i} ${chain}`;
  const labels = { "containerd.io/snapshot.ref": chain };
  try {
    await storage.overlay.prepare(at, key, n === 0 ? "" : chainOf(i, n - 1), { labels });
    await storage.overlay.commit(at, chain, key);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
}

export async function runContainer({ metadata, overlay }: DaemonStorage, i: number): Promise<void> {
  await overlay.prepare(ctx, `c-${i}`, chainOf(i, 1), {
    labels: { "containerd.io/gc.root": "while it is made" },
  });
  const more = { snapshotter: "overlayfs", snapshotKey: `c-${i}` };
  await metadata.containers.create(ctx, containerOf(`c-${i}`, more));
  await overlay.update(ctx, { name: `c-${i}`, labels: {} }, ["labels"]);
}

/** All of one image's life; half of them end in its removal. */
async function live(storage: DaemonStorage, i: number): Promise<void> {
  await pull(storage, i);
  tell({ is: "here", what: "image", i });
  if (i % 2 === 0) {
    await runContainer(storage, i);
    tell({ is: "here", what: "container", i });
  }
  if (i % 4 > 1) return;
  tell({ is: "leaving", what: "container", i });
  await storage.metadata.containers.delete(ctx, `c-${i}`).catch(unlessNotFound);
  tell({ is: "gone", what: "container", i });
  tell({ is: "leaving", what: "image", i });
  await storage.metadata.images.delete(ctx, `img-${i}`, { sync: true });
  tell({ is: "gone", what: "image", i });
}

function unlessNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}

/** In one write, so that what was told is told whatever happens next. */
function tell(acknowledgement: Acknowledgement): void {
  writeSync(1, `${JSON.stringify(acknowledgement)}\n`);
}

async function main(root: string, first: number, last: number): Promise<void> {
  const spec = process.env["CONTAINERD_FAILPOINTS"];
  const recorder: Failpoints = { hit: (failpoint) => tell({ is: "hit", failpoint }) };
  const record = process.env["RECORD_FAILPOINTS"] !== undefined;
  const failpoints = spec ? parseFailpoints(spec) : record ? recorder : noFailpoints;
  await using storage = await openStorage(root, { failpoints });
  const all = Array.from({ length: last - first }, (_, n) => live(storage, first + n));
  await Promise.all(all);
  tell({ is: "done" });
}

if (import.meta.main) {
  const [root = "", first = "", last = ""] = process.argv.slice(2);
  await main(root, Number(first), Number(last));
}
