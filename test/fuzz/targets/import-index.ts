import assert from "node:assert";
import fc from "fast-check";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { assertTidy, openImageBench } from "#test/fuzz/targets/image-bench.ts";
import { imageFrom, imageInput } from "#test/fuzz/targets/image-input.ts";
import { tar } from "#test/support/tar.ts";

const mediaTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.oci.image.config.v1+json",
  "application/octet-stream",
  "",
];
const anything = fc.oneof(
  fc.constantFrom(null, true, -1, 1e300, "", "x", [], {}),
  fc.jsonValue({ maxDepth: 2 }),
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 12, arbitrary }, { weight: 1, arbitrary: anything });
const entry = fc.record(
  {
    mediaType: maybe(fc.constantFrom(...mediaTypes)),
    /** Which blob of the image, or one that is not there. */
    blob: fc.nat(6),
    digest: fc.option(maybe(fc.constantFrom("sha256:00", "md5:1", `sha256:${"0".repeat(64)}`)), {
      freq: 5,
    }),
    size: fc.option(maybe(fc.integer()), { freq: 4 }),
    annotations: maybe(
      fc.dictionary(
        fc.constantFrom("io.containerd.image.name", "org.opencontainers.image.ref.name", "x"),
        fc.constantFrom("docker.io/library/a:1", "1", "", "../x", "A B"),
        { noNullPrototype: true },
      ),
    ),
    platform: maybe(
      fc.constantFrom(undefined, { os: "linux", architecture: "amd64" }, { os: "unknown" }),
    ),
  },
  { requiredKeys: ["blob", "mediaType"] },
);

/** Whatever an index says, an import takes it or refuses it as a bad one, and leaves nothing half done. */
export const target = fuzzTarget({
  name: "ImportIndex",
  smokeRuns: 30,
  inputs: fc.record({
    image: imageInput,
    manifests: maybe(fc.array(maybe(entry), { maxLength: 4 })),
    schemaVersion: maybe(fc.constant(2)),
    mediaType: maybe(fc.constantFrom(undefined, ...mediaTypes)),
  }),
  async check({ image: input, manifests, schemaVersion, mediaType }, dir) {
    const image = imageFrom(input);
    const blobs = [...image.blobs];
    const list: unknown = manifests;
    const named = Array.isArray(list)
      ? list.map((one: unknown) => {
          if (typeof one !== "object" || one === null || !("blob" in one)) return one;
          const [digest = "sha256:none", bytes] = blobs[Number(one.blob)] ?? [];
          const given = Object.entries(one).filter(
            ([key, value]) => key !== "blob" && value !== null,
          );
          return { digest, size: bytes?.length ?? 1, ...Object.fromEntries(given) };
        })
      : list;
    const index = JSON.stringify({ schemaVersion, mediaType, manifests: named });
    const archive = tar([
      { path: "oci-layout", content: '{"imageLayoutVersion":"1.0.0"}' },
      { path: "index.json", content: index },
      ...blobs.map(([digest, content]) => ({ path: `blobs/${digest.replace(":", "/")}`, content })),
    ]);
    await using bench = await openImageBench(dir);
    const ended = await outcome(bench.importArchive(archive));
    // Unknown: upstream's words for an index of nothing.
    const answers = ["ok", "invalid-argument", "not-found", "unknown"];
    assert.ok(answers.includes(ended), `${ended}: ${index}`);
    await assertTidy(bench);
  },
});
