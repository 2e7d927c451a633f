import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { Failpoints } from "#pkg/failpoint.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import { type GraphObject, idOf, survivors } from "#test/integration/metadata/naive-gc.ts";
import {
  anyGraph,
  anyObject,
  build,
  digestOfName,
  labelsOf,
  leaseResource,
  present,
} from "#test/integration/metadata/random-graph.ts";

const numRuns = Number(process.env["GC_RANDOM_RUNS"] ?? 40);

/** What the backends hold is exactly what is recorded. */
async function assertBackends(storage: DaemonStorage, kept: ReadonlySet<string>): Promise<void> {
  const ctx = inNamespace("any");
  const blobs = [];
  for await (const { digest } of storage.content.list(ctx)) blobs.push(digest);
  const ids = [...kept].map((id) => id.split("/"));
  const contents = ids.filter(([, kind]) => kind === "content");
  const wanted = contents.map(([ns = "", , name = ""]) => digestOfName(ns, name));
  assert.deepStrictEqual(blobs.map(String).toSorted(), wanted.toSorted());
  const snapshots = ids.filter(([, kind]) => kind === "snapshot").length;
  assert.strictEqual(storage.snapshotter.names.length, snapshots);
}

test("a collection leaves what a naive one leaves, over random graphs", async () => {
  const property = fc.asyncProperty(anyGraph, async (objects) => {
    const root = await mkdtemp(join(tmpdir(), "gc-random-"));
    try {
      await using storage = await openStorage(root, { noSync: true });
      for (const object of objects) await build(storage, object);
      const expected = survivors(objects);
      await storage.metadata.collector.scheduleAndWait(inNamespace("any"));
      const kept = await present(storage);
      assert.deepStrictEqual([...kept].toSorted(), [...expected].toSorted());
      await assertBackends(storage, kept);
    } finally {
      await rm(root, { recursive: true });
    }
  });
  await fc.assert(property, { numRuns });
});

/** Something done to a graph: an object is made or takes another's place. Only kinds whose records change at once. */
const anyChange = anyObject.filter(({ kind }) => kind !== "snapshot");

test("what is written while a collection marks loses nothing, and the next one is exact", async () => {
  const changes = fc.uniqueArray(anyChange, { selector: idOf, minLength: 1, maxLength: 12 });
  const property = fc.asyncProperty(anyGraph, changes, async (objects, changed) => {
    const root = await mkdtemp(join(tmpdir(), "gc-random-"));
    const writes: Promise<void>[] = [];
    let onMarked = (): void => {};
    const failpoints: Failpoints = {
      hit(name) {
        if (name === "metadata.marked") onMarked();
      },
    };
    try {
      await using storage = await openStorage(root, { noSync: true, failpoints });
      for (const object of objects) await build(storage, object);
      const before = new Map(objects.map((object) => [idOf(object), object]));
      const after = new Map(before);
      onMarked = () => {
        onMarked = () => {};
        for (const object of changed) {
          const write = change(storage, before, object);
          if (!write) continue;
          writes.push(write);
          after.set(idOf(object), object);
        }
      };
      await storage.metadata.collector.scheduleAndWait(inNamespace("any"));
      await Promise.all(writes);
      const expected = survivors([...after.values()]);
      const kept = await present(storage);
      for (const id of expected) assert.ok(kept.has(id), `${id} was lost`);
      await storage.metadata.collector.scheduleAndWait(inNamespace("any"));
      const exact = await present(storage);
      assert.deepStrictEqual([...exact].toSorted(), [...expected].toSorted());
      await assertBackends(storage, exact);
    } finally {
      await rm(root, { recursive: true });
    }
  });
  await fc.assert(property, { numRuns });
});

/** Starts a change whose record is written before this returns; undefined for one that cannot be. */
function change(
  storage: DaemonStorage,
  before: ReadonlyMap<string, GraphObject>,
  object: GraphObject,
): Promise<void> | undefined {
  const { ns, kind, name } = object;
  const exists = before.has(idOf(object));
  if (kind === "content") {
    if (!exists) return;
    const digest = digestOfName(ns, name);
    const given = { digest, labels: labelsOf(object) };
    return storage.metadata.content.update(inNamespace(ns), given).then(() => {});
  }
  if (exists) return;
  if (kind !== "lease") return build(storage, object);
  const ctx = inNamespace(ns);
  // Started one after the other without waiting: each writes its record at once.
  const steps = [
    storage.metadata.leases.create(ctx, { id: name, labels: labelsOf(object) }).then(() => {}),
    ...object.holds.map((held) => {
      return storage.metadata.leases.addResource(ctx, name, leaseResource(ns, held));
    }),
  ];
  return Promise.all(steps).then(() => {});
}
