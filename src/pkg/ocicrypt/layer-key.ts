import type { KeyObject } from "node:crypto";
import * as v from "valibot";
import { CodedError, failedPrecondition, invalidArgument, messageOf } from "#pkg/errors.ts";
import { unwrapJwe } from "#pkg/ocicrypt/jwe.ts";

// How ocicrypt encrypts layers (https://github.com/containers/ocicrypt): by one symmetric key for each, which the
// annotations of its descriptor hold, wrapped for each of the recipients.

const prefix = "org.opencontainers.image.enc.";
const jweAnnotation = `${prefix}keys.jwe`;
const publicOptions = `${prefix}pubopts`;
/** Recipients of one layer. */
const wrappedMax = 256;

/** What a layer is decrypted with. */
export interface LayerKey {
  readonly key: Buffer;
  readonly nonce: Buffer;
  /** SHA-256 HMAC by the same key over the encrypted bytes. */
  readonly hmac: Buffer;
}

const bytes = v.pipe(
  v.string(),
  v.base64(),
  v.transform((text) => Buffer.from(text, "base64")),
);
const cipherOptions = v.optional(v.nullable(v.record(v.string(), bytes)));
const privateSchema = v.object({ symkey: bytes, cipheroptions: cipherOptions });
const publicSchema = v.object({ cipher: v.string(), hmac: bytes, cipheroptions: cipherOptions });

/**
 * The key of a layer, unwrapped by the first of the private keys that can.
 *
 * Throws `permission-denied` where none can, `not-implemented` where its key is wrapped by nothing but what is not
 * known here (PGP, PKCS 7, PKCS 11, key providers), `invalid-argument` for annotations that do not parse.
 */
export async function unwrapLayerKey(
  annotations: Readonly<Record<string, string>>,
  keys: readonly KeyObject[],
): Promise<LayerKey> {
  const wrapped = annotations[jweAnnotation] ?? "";
  if (wrapped === "") throw notWrappedByJwe(annotations);
  if (keys.length === 0) throw denied("missing private key needed for decryption");
  const jwes = wrapped.split(",");
  if (jwes.length > wrappedMax) throw invalidArgument(`more than ${wrappedMax} recipients`);
  for (const jwe of jwes) {
    const secret = await unwrapJwe(Buffer.from(jwe, "base64").toString("utf8"), keys);
    if (secret) return layerKey(secret, annotations[publicOptions] ?? "");
  }
  throw denied("none of the private keys could be used for decryption");
}

function denied(what: string): CodedError {
  return new CodedError("permission-denied", what);
}

function notWrappedByJwe(annotations: Readonly<Record<string, string>>): CodedError {
  const schemes = Object.keys(annotations)
    .filter((name) => name.startsWith(`${prefix}keys.`))
    .map((name) => name.slice(`${prefix}keys.`.length));
  if (schemes.length === 0) return failedPrecondition("missing annotations needed for decryption");
  const what = `the layer's key is wrapped by ${schemes.join(", ")}; only jwe is supported`;
  return new CodedError("not-implemented", what);
}

function layerKey(secret: Uint8Array, pubopts: string): LayerKey {
  const own = parse(privateSchema, Buffer.from(secret), "private options");
  const open = parse(publicSchema, Buffer.from(pubopts, "base64"), "public options");
  if (open.cipher !== "AES_256_CTR_HMAC_SHA256") {
    throw new CodedError("not-implemented", `unsupported cipher type: ${open.cipher.slice(0, 64)}`);
  }
  const nonce = open.cipheroptions?.["nonce"] ?? own.cipheroptions?.["nonce"];
  if (own.symkey.length !== 32) throw invalidArgument("a layer's key has 32 bytes");
  if (nonce?.length !== 16) throw invalidArgument("a layer's nonce has 16 bytes");
  if (open.hmac.length !== 32) throw invalidArgument("a layer's HMAC has 32 bytes");
  return { key: own.symkey, nonce, hmac: open.hmac };
}

function parse<S extends v.GenericSchema>(schema: S, text: Buffer, what: string): v.InferOutput<S> {
  try {
    return v.parse(schema, JSON.parse(text.toString("utf8")));
  } catch (error) {
    // A parser's own words would quote the key.
    const why = error instanceof v.ValiError ? messageOf(error) : "no JSON";
    throw invalidArgument(`${what} of the encryption: ${why}`);
  }
}
