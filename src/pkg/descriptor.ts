import type { Digest } from "#pkg/digest.ts";

/** What a manifest says of a blob (OCI image-spec, descriptor). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly annotations: Readonly<Record<string, string>>;
}
