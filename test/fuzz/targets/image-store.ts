import assert from "node:assert";
import fc from "fast-check";
import type { Image } from "#core/images/images.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";

type Given = Pick<Image, "name" | "labels" | "target">;

const key = fc.constantFrom("a", "b.c", "__proto__");
const map = fc.dictionary(key, fc.constantFrom("", "1", "2"), { noNullPrototype: true });
const image = fc.record({
  name: fc.constantFrom("x", "docker.io/library/y:1", ""),
  labels: map,
  target: fc.record({
    mediaType: fc.constantFrom("m", "n", ""),
    digest: fc.constantFrom<Digest>(digestOf("1"), digestOf("2")),
    sizeBytes: fc.constantFrom(1, 2, 0),
    annotations: map,
  }),
});
const fields = fc.oneof(
  fc.constantFrom("labels", "annotations", "target", "name"),
  fc.tuple(fc.constantFrom("labels", "annotations"), key).map(([field, k]) => `${field}.${k}`),
);
const step = fc.oneof(
  fc.record({ do: fc.constant("create" as const), image }),
  fc.record({
    do: fc.constant("update" as const),
    image,
    fields: fc.array(fields, { maxLength: 3 }),
  }),
  fc.record({ do: fc.constant("delete" as const), image, checked: fc.boolean() }),
);

const kept = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));

function asStored({ name, labels, target }: Given): Given {
  const annotations = kept(target.annotations);
  return { name, labels: kept(labels), target: { ...target, annotations } };
}

const isValid = ({ name, target }: Given): boolean =>
  name !== "" && target.mediaType !== "" && target.sizeBytes > 0;

/** What an update makes of an image, said plainly; undefined where a field cannot be updated. */
function updated(current: Given, given: Given, paths: readonly string[]): Given | undefined {
  if (paths.length === 0) return given;
  let { labels, target } = current;
  for (const path of paths) {
    const [field = "", ...rest] = path.split(".");
    const one = rest.join(".");
    const [from, to] =
      field === "labels" ? [given.labels, labels] : [given.target.annotations, target.annotations];
    const others = Object.entries(to).filter(([k]) => k !== one);
    const own = Object.entries(from).filter(([k]) => k === one);
    const map = rest.length === 0 ? from : Object.fromEntries([...others, ...own]);
    if (field === "labels") labels = map;
    else if (field === "annotations") target = { ...target, annotations: map };
    else if (field === "target") target = given.target;
    else return undefined;
  }
  return { name: given.name, labels, target };
}

/** The store answers and holds what a map from names to images would. */
export const target = fuzzTarget({
  name: "ImageStore",
  smokeRuns: 25,
  inputs: fc.array(step, { minLength: 1, maxLength: 25 }),
  async check(steps, dir) {
    await using storage = await openStorage(dir, { noSync: true });
    const { images } = storage.metadata;
    const ctx = inNamespace("fuzz");
    const model = new Map<string, Given>();
    for (const step of steps) {
      const { image } = step;
      const current = model.get(image.name);
      if (step.do === "create") {
        const wanted = !isValid(image) ? "invalid-argument" : current ? "already-exists" : "ok";
        assert.strictEqual(await outcome(images.create(ctx, image)), wanted);
        if (wanted === "ok") model.set(image.name, asStored(image));
      } else if (step.do === "update") {
        const next = current && updated(current, image, step.fields);
        const wanted =
          image.name !== "" && !current
            ? "not-found"
            : next && isValid(next)
              ? "ok"
              : "invalid-argument";
        assert.strictEqual(await outcome(images.update(ctx, image, step.fields)), wanted);
        if (wanted === "ok" && next) model.set(image.name, asStored(next));
      } else {
        const options = step.checked ? { target: image.target } : {};
        const fits = current && (!step.checked || current.target.digest === image.target.digest);
        const ended = await outcome(images.delete(ctx, image.name, options));
        assert.strictEqual(ended, fits ? "ok" : "not-found");
        if (fits) model.delete(image.name);
      }
    }
    const listed = await images.list(ctx);
    const names = [...model.keys()].toSorted();
    assert.deepStrictEqual(
      listed.map(asStored),
      names.map((name) => model.get(name)),
    );
    for (const name of names)
      assert.deepStrictEqual(asStored(await images.get(ctx, name)), model.get(name));
  },
});
