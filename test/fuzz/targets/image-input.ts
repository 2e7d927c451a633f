import fc from "fast-check";
import { buildImage, hostPlatform, type Image } from "#test/support/images.ts";

/** An image as plain values: what its layers hold, and how they are written down. */
export const imageInput = fc.record({
  layers: fc.array(fc.nat(3), { maxLength: 4 }),
  compression: fc.constantFrom("none", "gzip", "zstd" as const),
  docker: fc.boolean(),
});
export type ImageInput = typeof imageInput extends fc.Arbitrary<infer T> ? T : never;

export function imageFrom({ layers, compression, docker }: ImageInput, architecture = ""): Image {
  return buildImage({
    layers: layers.map((n) => [
      { path: `file-${n}`, content: `${architecture} ${n}`.repeat(n * 50) },
    ]),
    compression,
    docker,
    ...(architecture !== "" && { platform: { ...hostPlatform, architecture } }),
  });
}
