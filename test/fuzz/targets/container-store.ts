import assert from "node:assert";
import fc from "fast-check";
import type { ContainerInput } from "#core/containers/containers.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";

const any = fc.record({
  typeUrl: fc.constantFrom("t/1", "t/2"),
  value: fc.uint8Array({ maxLength: 20 }),
});
const key = fc.constantFrom("a", "b.c", "__proto__");
const container = fc.record({
  id: fc.constantFrom("x", "y-1", "bad/id", ""),
  labels: fc.dictionary(key, fc.constantFrom("", "1", "2"), { noNullPrototype: true }),
  image: fc.constantFrom("", "img"),
  runtime: fc.record({
    name: fc.constantFrom("io.containerd.runc.v2", "other", ""),
    options: fc.option(any, { nil: undefined }),
  }),
  spec: fc.option(any, { nil: undefined, freq: 9 }),
  snapshotter: fc.constantFrom("", "overlayfs"),
  snapshotKey: fc.constantFrom("", "key"),
  extensions: fc.dictionary(fc.constantFrom("e", "f.g"), any, { noNullPrototype: true }),
  sandbox: fc.constantFrom("", "pod"),
});
const fields = fc.oneof(
  fc.constantFrom("labels", "extensions", "spec", "image", "snapshotkey", "runtime", "snapshotter"),
  fc.tuple(fc.constantFrom("labels", "extensions"), key).map(([field, k]) => `${field}.${k}`),
);
const step = fc.oneof(
  fc.record({ do: fc.constant("create" as const), container }),
  fc.record({
    do: fc.constant("update" as const),
    container,
    fields: fc.array(fields, { maxLength: 3 }),
  }),
  fc.record({ do: fc.constant("delete" as const), container }),
);

function isValid({ id, runtime, spec, snapshotter, snapshotKey }: ContainerInput): boolean {
  if (id === "" || id.includes("/") || runtime.name === "" || !spec) return false;
  return snapshotKey === "" || snapshotter !== "";
}

function asStored(given: ContainerInput): ContainerInput {
  const { id, image, runtime, spec, snapshotter, snapshotKey, extensions, sandbox } = given;
  const labels = Object.fromEntries(
    Object.entries(given.labels).filter(([, value]) => value !== ""),
  );
  const fields = {
    id,
    labels,
    image,
    runtime,
    spec,
    snapshotter,
    snapshotKey,
    extensions,
    sandbox,
  };
  return withPlainBytes(fields);
}

/** Byte arrays of one class, so that equal ones are equal. */
function withPlainBytes<T>(value: T): T {
  return structuredClone(value);
}

/** Undefined where the update must be refused. */
function updated(
  current: ContainerInput,
  given: ContainerInput,
  paths: readonly string[],
): ContainerInput | undefined {
  if (paths.length === 0) {
    const isSame =
      current.snapshotter === given.snapshotter && current.runtime.name === given.runtime.name;
    if (!isSame) return undefined;
    const { labels, image, spec, snapshotKey, extensions } = given;
    return { ...current, labels, image, spec, snapshotKey, extensions };
  }
  let next = current;
  for (const path of paths) {
    const [field = "", ...rest] = path.split(".");
    const one = rest.join(".");
    if (field === "spec") next = { ...next, spec: given.spec };
    else if (field === "image") next = { ...next, image: given.image };
    else if (field === "snapshotkey") next = { ...next, snapshotKey: given.snapshotKey };
    else if (field === "labels" || field === "extensions") {
      const others = Object.entries(next[field]).filter(([k]) => k !== one);
      const own = Object.entries(given[field]).filter(([k]) => k === one);
      const map = rest.length === 0 ? given[field] : Object.fromEntries([...others, ...own]);
      next = { ...next, [field]: map };
    } else return undefined;
  }
  return next;
}

/** The store answers and holds what a map from ids to containers would. */
export const target = fuzzTarget({
  name: "ContainerStore",
  smokeRuns: 25,
  inputs: fc.array(step, { minLength: 1, maxLength: 25 }),
  async check(steps, dir) {
    await using storage = await openStorage(dir, { noSync: true });
    const { containers } = storage.metadata;
    const ctx = inNamespace("fuzz");
    const model = new Map<string, ContainerInput>();
    for (const step of steps) {
      const { container } = step;
      const { id } = container;
      const current = model.get(id);
      if (step.do === "create") {
        const wanted = !isValid(container) ? "invalid-argument" : current ? "already-exists" : "ok";
        assert.strictEqual(await outcome(containers.create(ctx, container)), wanted);
        if (wanted === "ok") model.set(id, asStored(container));
      } else if (step.do === "update") {
        const next = current && updated(current, container, step.fields);
        const wanted =
          id !== "" && !current ? "not-found" : next && isValid(next) ? "ok" : "invalid-argument";
        assert.strictEqual(await outcome(containers.update(ctx, container, step.fields)), wanted);
        if (wanted === "ok" && next) model.set(id, asStored(next));
      } else {
        const ended = await outcome(containers.delete(ctx, id));
        assert.strictEqual(ended, model.delete(id) ? "ok" : "not-found");
      }
    }
    const ids = [...model.keys()].toSorted();
    assert.deepStrictEqual(
      (await containers.list(ctx)).map(asStored),
      ids.map((id) => model.get(id)),
    );
    for (const id of ids)
      assert.deepStrictEqual(asStored(await containers.get(ctx, id)), model.get(id));
  },
});
