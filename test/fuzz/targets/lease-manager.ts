import assert from "node:assert";
import fc from "fast-check";
import { put } from "#core/content/suite.ts";
import { digestOf } from "#pkg/digest.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const lease = fc.constantFrom("l1", "l2", "l3");
const blobs = ["p", "q", "r"];
const resource = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(...blobs)
      .map((b) => ({ type: "content", id: digestOf(b) as string })),
  },
  fc.record({
    type: fc.constantFrom(
      "images",
      "ingests",
      "snapshots/overlayfs",
      "snapshots",
      "content",
      "volumes",
    ),
    id: fc.constantFrom("n", "m"),
  }),
);
const expiry = fc.constantFrom("", "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "no time");
const step = fc.oneof(
  fc.record({ do: fc.constant("create" as const), lease, expiry, other: fc.constantFrom("", "1") }),
  fc.record({ do: fc.constant("delete" as const), lease }),
  fc.record({ do: fc.constant("add" as const), lease, resource }),
  fc.record({ do: fc.constant("remove" as const), lease, resource }),
  fc.record({ do: fc.constant("put" as const), blob: fc.constantFrom(...blobs) }),
  fc.record({ do: fc.constant("collect" as const) }),
);

interface Lease {
  readonly expired: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly resources: Set<string>;
}

/** How adding or removing a resource must end when its lease is there. */
function verdict({ type, id }: { type: string; id: string }): string {
  if (type === "volumes") return "not-implemented";
  if (type === "snapshots") return "invalid-argument";
  return type === "content" && !id.startsWith("sha256:") ? "invalid-argument" : "ok";
}

/**
 * Leases hold what was added and not removed; a collection ends those whose time is over, and takes
 * what none holds.
 */
export const target = fuzzTarget({
  name: "LeaseManager",
  smokeRuns: 25,
  inputs: fc.array(step, { minLength: 1, maxLength: 25 }),
  async check(steps, dir) {
    await using storage = await openStorage(dir, { noSync: true });
    const { leases, content, collector } = storage.metadata;
    const ctx = inNamespace("fuzz");
    const model = new Map<string, Lease>();
    const there = new Set<string>();
    for (const [i, step] of steps.entries()) {
      switch (step.do) {
        case "create": {
          const { expiry, other, lease: id } = step;
          const labels = { "containerd.io/gc.expire": expiry, other };
          const ended = await outcome(leases.create(ctx, { id, labels }));
          assert.strictEqual(ended, model.has(id) ? "already-exists" : "ok");
          if (ended !== "ok") break;
          const kept = Object.fromEntries(Object.entries(labels).filter(([, v]) => v !== ""));
          const expired = expiry.startsWith("2001");
          model.set(id, { expired, labels: kept, resources: new Set() });
          break;
        }
        case "delete":
          assert.strictEqual(
            await outcome(leases.delete(ctx, step.lease)),
            model.delete(step.lease) ? "ok" : "not-found",
          );
          break;
        case "add":
        case "remove": {
          const { resource } = step;
          const held = model.get(step.lease);
          const ended = await outcome(
            step.do === "add"
              ? leases.addResource(ctx, step.lease, resource)
              : leases.deleteResource(ctx, step.lease, resource),
          );
          assert.strictEqual(ended, held ? verdict(resource) : "not-found");
          if (ended !== "ok") break;
          const known = `${resource.type} ${resource.id}`;
          if (step.do === "add") held?.resources.add(known);
          else held?.resources.delete(known);
          break;
        }
        case "put":
          if (there.has(step.blob)) break;
          await put(ctx, content, `ref-${i}`, Buffer.from(step.blob));
          there.add(step.blob);
          break;
        case "collect":
          await collector.scheduleAndWait(ctx);
          for (const [id, { expired }] of model) if (expired) model.delete(id);
          for (const blob of there) {
            const id = `content ${digestOf(blob)}`;
            if (![...model.values()].some(({ resources }) => resources.has(id))) there.delete(blob);
          }
      }
    }
    const listed = await leases.list(ctx);
    assert.deepStrictEqual(
      new Map(listed.map(({ id, labels }) => [id, labels])),
      new Map([...model].map(([id, { labels }]) => [id, labels])),
    );
    for (const [id, { resources }] of model) {
      const all = (await leases.listResources(ctx, id)).map((r) => `${r.type} ${r.id}`);
      assert.deepStrictEqual(all.toSorted(), [...resources].toSorted());
    }
    const digests = (await collected(content.list(ctx))).map((info) => String(info.digest));
    assert.deepStrictEqual(digests.toSorted(), [...there].map(digestOf).map(String).toSorted());
  },
});
