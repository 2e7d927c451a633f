import { createPrivateKey, type JsonWebKeyInput, type KeyObject } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { failedPrecondition, wrap } from "#pkg/errors.ts";

/** A directory of keys, not of everything: more files than this are a mistake. */
const filesMax = 1_000;
const keyBytesMax = 1 << 20;

/**
 * The private keys of a directory and those below it. Files that hold none, such as certificates, are passed over.
 *
 * Throws `failed-precondition` for symbolic links, as upstream, and for files that are too many or too large.
 */
export async function readDecryptionKeys(directory: string): Promise<readonly KeyObject[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    (error: unknown) => {
      throw wrap("unable to get decryption keys in provided key path", error);
    },
  );
  if (entries.length > filesMax) {
    throw failedPrecondition(`${directory} holds more than ${filesMax} files`);
  }
  const keys: KeyObject[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) {
      throw failedPrecondition(
        `${path}: symbolic links are not supported in decryption keys paths`,
      );
    }
    if (!entry.isFile()) continue;
    if ((await stat(path)).size > keyBytesMax) {
      throw failedPrecondition(`${path}: a key has at most ${keyBytesMax} bytes`);
    }
    const key = parsePrivateKey(await readFile(path));
    if (key) keys.push(key);
  }
  return keys;
}

/** PEM, DER (PKCS 8 or 1, SEC 1) or a JSON web key; undefined where it is none of them, or its password another. */
export function parsePrivateKey(bytes: Uint8Array, passphrase?: string): KeyObject | undefined {
  if (bytes.length > keyBytesMax) return undefined;
  const buffer = Buffer.from(bytes);
  const given = passphrase === undefined ? {} : { passphrase };
  const forms: readonly (() => KeyObject)[] = [
    () => createPrivateKey({ key: buffer, format: "pem", ...given }),
    () => createPrivateKey({ key: buffer, format: "der", type: "pkcs8", ...given }),
    () => createPrivateKey({ key: buffer, format: "der", type: "pkcs1" }),
    () => createPrivateKey({ key: buffer, format: "der", type: "sec1" }),
    () => {
      // -- what is no web key is refused by createPrivateKey itself
      const key = JSON.parse(buffer.toString("utf8")) as JsonWebKeyInput["key"];
      return createPrivateKey({ key, format: "jwk" });
    },
  ];
  for (const form of forms) {
    try {
      return form();
    } catch {
      continue; // -- not of this form: the next is tried
    }
  }
  return undefined;
}
