import fc from "fast-check";
import type { LeaseResource } from "#core/leases/leases.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf, parseDigest } from "#pkg/digest.ts";
import type { Labels } from "#pkg/label.ts";
import { formatRfc3339, nowNanos } from "#pkg/time.ts";
import { put } from "#core/content/suite.ts";
import { type DaemonStorage, inNamespace } from "#test/integration/metadata/daemon-storage.ts";
import { type GraphObject, idOf } from "#test/integration/metadata/naive-gc.ts";

const hour = 3_600_000_000_000n;
const names = ["a", "b", "c", "d", "e"];
export const namespaces = ["one", "two"];

const reference = (kinds: readonly string[]): fc.Arbitrary<string> =>
  fc.tuple(fc.constantFrom(...kinds), fc.constantFrom(...names)).map(([k, n]) => `${k}/${n}`);

const anyRefs = fc.array(reference(["content", "image", "snapshot"]), { maxLength: 2 });
const anyBackRefs = fc.oneof(
  { weight: 3, arbitrary: fc.constant([]) },
  {
    weight: 1,
    arbitrary: fc.array(reference(["content", "image", "snapshot", "container"]), {
      maxLength: 2,
    }),
  },
);

export const anyObject: fc.Arbitrary<GraphObject> = fc
  .record({
    ns: fc.constantFrom(...namespaces),
    kind: fc.constantFrom("content", "image", "snapshot", "container", "lease"),
    name: fc.constantFrom(...names),
    refs: anyRefs,
    backRefs: anyBackRefs,
    root: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    expired: fc.boolean(),
    flat: fc.boolean(),
    content: reference(["content"]),
    snapshot: reference(["snapshot"]),
    held: fc.array(reference(["content", "image", "snapshot"]), { maxLength: 3 }),
  })
  .map(({ content, snapshot, held, ...object }) => {
    const holds = {
      content: [],
      image: [content],
      snapshot: [],
      container: [snapshot],
      lease: held,
    };
    // Labels of a lease refer to nothing.
    const links = object.kind === "lease" ? { refs: [], backRefs: [] } : {};
    return { ...object, ...links, holds: holds[object.kind] };
  });

/** Objects without two of a name, snapshots each on one before it or on nothing. */
export const anyGraph = fc
  .tuple(
    fc.uniqueArray(anyObject, { selector: idOf, minLength: 1, maxLength: 30 }),
    fc.array(fc.nat(), { minLength: 30, maxLength: 30 }),
  )
  .map(([objects, choices]) => {
    const bases: GraphObject[] = [];
    return objects.map((object, i) => {
      if (object.kind !== "snapshot") return object;
      const below = bases.filter((base) => base.ns === object.ns);
      const parent = below[(choices[i] ?? 0) % (below.length + 1)];
      const stacked = { ...object, holds: parent ? [`snapshot/${parent.name}`] : [] };
      bases.push(stacked);
      return stacked;
    });
  });

export const digestOfName = (ns: string, name: string): Digest => digestOf(`${ns} ${name}`);

function keyOf(ns: string, reference: string): [kind: string, key: string] {
  const [kind = "", name = ""] = reference.split("/");
  return [kind, kind === "content" ? digestOfName(ns, name) : name];
}

export function labelsOf(object: GraphObject): Labels {
  const { ns, refs, backRefs, root, expired, flat, kind } = object;
  const entries: [string, string][] = [];
  for (const [prefix, all] of [
    ["containerd.io/gc.ref", refs],
    ["containerd.io/gc.bref", backRefs],
  ] as const) {
    for (const [i, reference] of all.entries()) {
      const [refKind, key] = keyOf(ns, reference);
      const label = refKind === "snapshot" ? `snapshot.overlayfs/${i}` : `${refKind}.${i}`;
      entries.push([`${prefix}.${label}`, key]);
    }
  }
  if (root) entries.push(["containerd.io/gc.root", "now"]);
  const collectible = kind === "image" || kind === "lease";
  const expiry = formatRfc3339(nowNanos() + (expired ? -hour : hour));
  if (collectible) entries.push(["containerd.io/gc.expire", expiry]);
  if (kind === "lease" && flat) entries.push(["containerd.io/gc.flat", "true"]);
  return Object.fromEntries(entries);
}

export async function build(storage: DaemonStorage, object: GraphObject): Promise<void> {
  const { ns, name, kind, holds } = object;
  const ctx = inNamespace(ns);
  const labels = labelsOf(object);
  switch (kind) {
    case "content": {
      const digest = await put(ctx, storage.metadata.content, name, Buffer.from(`${ns} ${name}`));
      await storage.metadata.content.update(ctx, { digest, labels });
      return;
    }
    case "image": {
      const [, digest] = keyOf(ns, holds[0] ?? "");
      const target = { mediaType: "m", digest: parseDigest(digest), sizeBytes: 1, annotations: {} };
      await storage.metadata.images.create(ctx, { name, labels, target });
      return;
    }
    case "snapshot":
      return buildSnapshot(storage, ctx, object, labels);
    case "container":
      await storage.metadata.containers.create(ctx, {
        id: name,
        labels,
        image: "",
        runtime: { name: "r", options: undefined },
        spec: { typeUrl: "t", value: new Uint8Array() },
        snapshotter: "overlayfs",
        snapshotKey: keyOf(ns, holds[0] ?? "")[1],
        extensions: {},
        sandbox: "",
      });
      return;
    case "lease":
      await storage.metadata.leases.create(ctx, { id: name, labels });
      for (const held of holds) {
        await storage.metadata.leases.addResource(ctx, name, leaseResource(ns, held));
      }
  }
}

export function leaseResource(ns: string, held: string): LeaseResource {
  const [kind, id] = keyOf(ns, held);
  const type = { content: "content", image: "images", snapshot: "snapshots/overlayfs" }[kind];
  if (type === undefined) throw new Error(`a lease holds no ${kind}`);
  return { type, id };
}

async function buildSnapshot(
  storage: DaemonStorage,
  ctx: Context,
  { name, holds }: GraphObject,
  labels: Labels,
): Promise<void> {
  const parent = holds[0]?.slice("snapshot/".length) ?? "";
  await storage.overlay.prepare(ctx, `${name}-active`, parent);
  await storage.overlay.commit(ctx, name, `${name}-active`, { labels });
}

export async function present(storage: DaemonStorage): Promise<Set<string>> {
  const ids = new Set<string>();
  for (const ns of namespaces) {
    const ctx = inNamespace(ns);
    const add = (kind: string, name: string): void => void ids.add(`${ns}/${kind}/${name}`);
    for (const name of names) {
      const digest = digestOfName(ns, name);
      for await (const _ of storage.metadata.content.list(ctx, [`digest==${digest}`])) {
        add("content", name);
      }
    }
    for (const { name } of await storage.metadata.images.list(ctx)) add("image", name);
    for await (const { name } of storage.overlay.list(ctx)) add("snapshot", name);
    for (const { id } of await storage.metadata.containers.list(ctx)) add("container", id);
    for (const { id } of await storage.metadata.leases.list(ctx)) add("lease", id);
  }
  return ids;
}
