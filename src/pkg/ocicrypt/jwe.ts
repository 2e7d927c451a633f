import type { KeyObject } from "node:crypto";
import { invalidArgument } from "#pkg/errors.ts";

const options = {
  keyManagementAlgorithms: [
    "RSA-OAEP",
    "RSA-OAEP-256",
    "ECDH-ES+A128KW",
    "ECDH-ES+A192KW",
    "ECDH-ES+A256KW",
  ],
  contentEncryptionAlgorithms: [
    "A128CBC-HS256",
    "A192CBC-HS384",
    "A256CBC-HS512",
    "A128GCM",
    "A192GCM",
    "A256GCM",
  ],
};

/**
 * What a JSON web encryption (RFC 7516, JSON serialization) holds for one of the keys; undefined where it is for none
 * of them. Throws `invalid-argument` for what is no JSON.
 */
export async function unwrapJwe(
  text: string,
  keys: readonly KeyObject[],
): Promise<Uint8Array | undefined> {
  const document = parse(text);
  const { flattenedDecrypt, generalDecrypt } = await import("jose");
  for (const key of keys) {
    try {
      // -- jose refuses what is not of these shapes
      const { plaintext } = await ("recipients" in document
        ? generalDecrypt(document as Parameters<typeof generalDecrypt>[0], key, options)
        : flattenedDecrypt(document as Parameters<typeof flattenedDecrypt>[0], key, options));
      return plaintext;
    } catch {
      continue; // -- for another key, or of another kind: the next is tried
    }
  }
  return undefined;
}

function parse(text: string): object {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    document = undefined; // -- refused below
  }
  if (typeof document === "object" && document !== null) return document;
  throw invalidArgument("a wrapped key is no JSON web encryption");
}
