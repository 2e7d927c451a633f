import type { ContainerInput } from "#core/containers/containers.ts";
import type { Image } from "#core/images/images.ts";
import { digestOf } from "#pkg/digest.ts";
import type { Labels } from "#pkg/label.ts";

export function imageOf(
  name: string,
  content: string,
  labels: Labels = {},
): Pick<Image, "name" | "labels" | "target"> {
  const target = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: digestOf(content),
    sizeBytes: content.length,
    annotations: {},
  };
  return { name, labels, target };
}

export function containerOf(id: string, more: Partial<ContainerInput> = {}): ContainerInput {
  return {
    id,
    labels: {},
    image: "docker.io/library/hello:latest",
    runtime: { name: "io.containerd.runc.v2", options: undefined },
    spec: {
      typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
      value: new TextEncoder().encode("{}"),
    },
    snapshotter: "",
    snapshotKey: "",
    extensions: {},
    sandbox: "",
    ...more,
  };
}

export async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
