import { createHash, type Hash } from "node:crypto";
import { invalidArgument } from "#pkg/errors.ts";

declare const digestBrand: unique symbol;

/** `algorithm:hex`, known to be well formed. Minted by `parseDigest` and by hashing only. */
export type Digest = string & { readonly [digestBrand]: true };

const hexLengths: ReadonlyMap<string, number> = new Map([
  ["sha256", 64],
  ["sha384", 96],
  ["sha512", 128],
]);

/** Throws `invalid-argument` with upstream's words for a malformed or unsupported digest. */
export function parseDigest(value: string): Digest {
  const digest = tryParseDigest(value);
  if (digest === undefined) throw invalidArgument(`${JSON.stringify(value)}: ${problemOf(value)}`);
  return digest;
}

export function tryParseDigest(value: string): Digest | undefined {
  const colon = value.indexOf(":");
  const hexLength = hexLengths.get(value.slice(0, colon));
  const hex = value.slice(colon + 1);
  if (hexLength === undefined || hex.length !== hexLength || !/^[0-9a-f]+$/.test(hex)) return;
  return value as Digest; // -- checked in the lines above
}

function problemOf(value: string): string {
  const match = /^([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)$/.exec(value);
  if (!match) return "invalid checksum digest format";
  const hexLength = hexLengths.get(match[1] ?? "");
  if (hexLength === undefined) return "unsupported digest algorithm";
  if ((match[2] ?? "").length !== hexLength) return "invalid checksum digest length";
  return "invalid checksum digest format";
}

export function digestAlgorithm(digest: Digest): string {
  return digest.slice(0, digest.indexOf(":"));
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

export function digestOf(data: string | Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(data).digest("hex")}` as Digest; // -- made by hashing
}

/** A running digest. */
export class Digester {
  readonly #algorithm: string;
  readonly #hash: Hash;

  constructor(algorithm = "sha256") {
    if (!hexLengths.has(algorithm)) {
      throw invalidArgument(`unsupported digest algorithm ${JSON.stringify(algorithm)}`);
    }
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  update(data: Uint8Array): this {
    this.#hash.update(data);
    return this;
  }

  /** Of what was given so far; more may follow. */
  digest(): Digest {
    return `${this.#algorithm}:${this.#hash.copy().digest("hex")}` as Digest; // -- made by hashing
  }
}
