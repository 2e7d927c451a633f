import assert from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { readBlob } from "#core/content/content.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import {
  type Acknowledgement,
  chainOf,
  ctx,
  layersOf,
  pull,
  runContainer,
} from "#test/crash/storage-program.ts";
import { type DaemonStorage, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const program = fileURLToPath(new URL("./storage-program.ts", import.meta.url));

export interface Run {
  readonly told: readonly Acknowledgement[];
  readonly killed: boolean;
}

/** Runs the program to its end, or until it has told so much that `stop` wants it killed. */
export async function runProgram(
  root: string,
  options: {
    readonly images: readonly [first: number, last: number];
    readonly env?: Readonly<Record<string, string>>;
    readonly stop?: (told: readonly Acknowledgement[]) => boolean;
  },
): Promise<Run> {
  const { images, env, stop } = options;
  const args = [program, root, ...images.map(String)];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const told: Acknowledgement[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    told.push(JSON.parse(line) as Acknowledgement); // -- written by the program's `tell`
    if (stop?.(told)) child.kill("SIGKILL");
  }
  const [code, signal] = (await ended) as [number | null, string | null]; // -- Node's `exit` event
  if (signal !== "SIGKILL") assert.strictEqual(code, 0, "the program failed");
  return { told, killed: signal === "SIGKILL" };
}

/** After a crash: nothing acknowledged is missing, a collection leaves no rubbish, and work goes on. */
export async function checkAfterCrash(
  root: string,
  told: readonly Acknowledgement[],
): Promise<void> {
  await using storage = await openStorage(root);
  await checkAcknowledged(storage, told);
  await storage.metadata.collector.scheduleAndWait(ctx);
  await checkAcknowledged(storage, told);
  await checkNoRubbish(storage);
  await pull(storage, 1000);
  await runContainer(storage, 1000);
  await checkImage(storage, 1000);
  await checkContainer(storage, 1000);
}

async function checkAcknowledged(
  storage: DaemonStorage,
  told: readonly Acknowledgement[],
): Promise<void> {
  const last = new Map<string, Exclude<Acknowledgement, { is: "hit" | "done" }>>();
  for (const item of told) if ("what" in item) last.set(`${item.what} ${item.i}`, item);
  const images = (await storage.metadata.images.list(ctx)).map((image) => image.name);
  const containers = (await storage.metadata.containers.list(ctx)).map(({ id }) => id);
  for (const { is, what, i } of last.values()) {
    if (is === "leaving") continue;
    const there = what === "image" ? images.includes(`img-${i}`) : containers.includes(`c-${i}`);
    assert.strictEqual(there, is === "here", `${what} ${i} was said to be ${is}`);
  }
  // Whole also where the crash came before the acknowledgement: what is listed can be used.
  for (const name of images) await checkImage(storage, Number(name.slice("img-".length)));
  for (const id of containers) await checkContainer(storage, Number(id.slice("c-".length)));
}

async function checkImage(storage: DaemonStorage, i: number): Promise<void> {
  const { content } = storage.metadata;
  for (const text of [...layersOf(i), `config of ${i}`, `manifest of ${i}`]) {
    const bytes = await readBlob(ctx, content, { digest: digestOf(text) }, 1000);
    assert.strictEqual(Buffer.from(bytes).toString(), text);
  }
  const manifest = await content.info(ctx, digestOf(`manifest of ${i}`));
  for (const digest of Object.values(manifest.labels)) await content.info(ctx, digest as Digest); // -- as labelled
  for (const n of [0, 1]) {
    assert.strictEqual((await storage.overlay.stat(ctx, chainOf(i, n))).kind, "committed");
  }
}

async function checkContainer(storage: DaemonStorage, i: number): Promise<void> {
  const info = await storage.overlay.stat(ctx, `c-${i}`);
  assert.deepStrictEqual([info.kind, info.parent], ["active", chainOf(i, 1)]);
  assert.strictEqual((await storage.overlay.mounts(ctx, `c-${i}`)).length, 1);
}

/** The backends hold what is recorded, and every record's object is there. */
async function checkNoRubbish(storage: DaemonStorage): Promise<void> {
  const recorded = (await collected(storage.metadata.content.list(ctx))).map((b) => b.digest);
  const held = (await collected(storage.content.list(ctx))).map((b) => b.digest);
  assert.deepStrictEqual(held.map(String).toSorted(), recorded.map(String).toSorted());
  const snapshots = await collected(storage.overlay.list(ctx));
  assert.strictEqual(storage.snapshotter.names.length, snapshots.length);
  const ingests = await storage.metadata.content.listStatuses(ctx);
  assert.strictEqual((await storage.content.listStatuses(ctx)).length, ingests.length);
}
