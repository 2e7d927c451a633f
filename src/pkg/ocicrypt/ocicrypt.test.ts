import assert from "node:assert/strict";
import {
  createCipheriv,
  createHmac,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { mkdir, mkdtempDisposable, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { FlattenedEncrypt, GeneralEncrypt } from "jose";
import { codeOf } from "#pkg/errors.ts";
import { parsePrivateKey, readDecryptionKeys } from "#pkg/ocicrypt/decryption-keys.ts";
import { decipherLayer } from "#pkg/ocicrypt/layer-decipher.ts";
import { type LayerKey, unwrapLayerKey } from "#pkg/ocicrypt/layer-key.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
const plain = Buffer.from("a layer\n".repeat(10_000));

interface Encrypted {
  readonly bytes: Buffer;
  readonly secret: Buffer;
  readonly pubopts: string;
}

function encrypt({ cipher = "AES_256_CTR_HMAC_SHA256" } = {}): Encrypted {
  const [key, nonce] = [randomBytes(32), randomBytes(16)];
  const aes = createCipheriv("aes-256-ctr", key, nonce);
  const bytes = Buffer.concat([aes.update(plain), aes.final()]);
  const hmac = createHmac("sha256", key).update(bytes).digest("base64");
  const own = { symkey: key.toString("base64"), digest: "", cipheroptions: null };
  const open = { cipher, hmac, cipheroptions: { nonce: nonce.toString("base64") } };
  return {
    bytes,
    secret: Buffer.from(JSON.stringify(own)),
    pubopts: Buffer.from(JSON.stringify(open)).toString("base64"),
  };
}

async function wrapFor(secret: Buffer, key: KeyObject, alg: string): Promise<string> {
  const jwe = await new FlattenedEncrypt(secret)
    .setProtectedHeader({ alg, enc: "A256GCM" })
    .encrypt(key);
  return Buffer.from(JSON.stringify(jwe)).toString("base64");
}

function annotations(jwe: string, { pubopts }: Encrypted): Record<string, string> {
  return {
    "org.opencontainers.image.enc.keys.jwe": jwe,
    "org.opencontainers.image.enc.pubopts": pubopts,
  };
}

async function decipher(encrypted: Buffer, key: LayerKey): Promise<Buffer> {
  async function* chunks(): AsyncGenerator<Buffer> {
    for (let at = 0; at < encrypted.length; at += 999) yield encrypted.subarray(at, at + 999);
  }
  return Buffer.concat(await Array.fromAsync(decipherLayer(chunks(), key)));
}

test("a layer is deciphered by the key that one of its recipients has", async () => {
  const layer = encrypt();
  for (const [pair, alg] of [
    [rsa, "RSA-OAEP"],
    [rsa, "RSA-OAEP-256"],
    [ec, "ECDH-ES+A256KW"],
  ] as const) {
    const jwe = await wrapFor(layer.secret, pair.publicKey, alg);
    const keys = [other.privateKey, pair.privateKey];
    const key = await unwrapLayerKey(annotations(jwe, layer), keys);
    assert.ok((await decipher(layer.bytes, key)).equals(plain), alg);
  }
  const both = await new GeneralEncrypt(layer.secret)
    .setProtectedHeader({ enc: "A256GCM" })
    .addRecipient(rsa.publicKey)
    .setUnprotectedHeader({ alg: "RSA-OAEP" })
    .addRecipient(ec.publicKey)
    .setUnprotectedHeader({ alg: "ECDH-ES+A256KW" })
    .encrypt();
  const several = Buffer.from(JSON.stringify(both)).toString("base64");
  const first = await wrapFor(layer.secret, other.publicKey, "ECDH-ES+A256KW");
  for (const pair of [rsa, ec]) {
    const found = annotations(`${first},${several}`, layer);
    const key = await unwrapLayerKey(found, [pair.privateKey]);
    assert.ok((await decipher(layer.bytes, key)).equals(plain));
  }
});

test("a wrong key, another scheme, another cipher are told apart, and no key is quoted", async () => {
  const layer = encrypt();
  const jwe = await wrapFor(layer.secret, rsa.publicKey, "RSA-OAEP");
  const unknown = encrypt({ cipher: "ROT_13" });
  const wrapped = await wrapFor(unknown.secret, rsa.publicKey, "RSA-OAEP");
  const broken = await wrapFor(Buffer.from('{"symkey": "c2VjcmV0"'), rsa.publicKey, "RSA-OAEP");
  const keys = [rsa.privateKey];
  for (const [found, given, code, words] of [
    [annotations(jwe, layer), [other.privateKey], "permission-denied", /none of the private keys/],
    [annotations(jwe, layer), [], "permission-denied", /missing private key/],
    [{ "org.opencontainers.image.enc.keys.pgp": "x" }, keys, "not-implemented", /wrapped by pgp/],
    [{}, keys, "failed-precondition", /missing annotations/],
    [annotations(wrapped, unknown), keys, "not-implemented", /cipher type: ROT_13/],
    [annotations(broken, layer), keys, "invalid-argument", /^private options .*: no JSON/],
    [annotations("e30=", layer), keys, "permission-denied", /none of the private keys/],
    [annotations("!", layer), keys, "invalid-argument", /no JSON web encryption/],
  ] as const) {
    const refused = unwrapLayerKey(found, given);
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof Error);
      assert.match(error.message, words);
      return codeOf(error) === code;
    });
  }
});

test("what was changed, cut or grown on its way is refused at its end", async () => {
  const layer = encrypt();
  const jwe = await wrapFor(layer.secret, rsa.publicKey, "RSA-OAEP");
  const key = await unwrapLayerKey(annotations(jwe, layer), [rsa.privateKey]);
  const flipped = Buffer.from(layer.bytes);
  flipped[5_000] = (flipped[5_000] ?? 0) ^ 1;
  for (const bytes of [flipped, layer.bytes.subarray(1), Buffer.concat([layer.bytes, flipped])]) {
    await assert.rejects(decipher(bytes, key), { code: "data-loss", message: /HMAC differs/ });
  }
});

test("keys of a directory: PEM, DER and JSON, below it too; what is none is passed over", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/keys-`);
  await mkdir(`${dir.path}/deep`);
  const der = rsa.privateKey.export({ format: "der", type: "pkcs8" });
  const files: Record<string, string | Buffer> = {
    "a.pem": ec.privateKey.export({ format: "pem", type: "sec1" }),
    "deep/b.der": der,
    "c.jwk": JSON.stringify(rsa.privateKey.export({ format: "jwk" })),
    "d.crt": "no key",
  };
  for (const [name, bytes] of Object.entries(files)) await writeFile(`${dir.path}/${name}`, bytes);
  const keys = await readDecryptionKeys(dir.path);
  const kinds = keys.map(({ asymmetricKeyType = "" }) => asymmetricKeyType);
  assert.deepEqual(kinds.toSorted(), ["ec", "rsa", "rsa"]);
  const pem = { format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase: "pw" } as const;
  const locked = Buffer.from(ec.privateKey.export(pem));
  assert.equal(parsePrivateKey(locked), undefined);
  assert.equal(parsePrivateKey(locked, "pw")?.asymmetricKeyType, "ec");
  await writeFile(`${dir.path}/large`, Buffer.alloc((1 << 20) + 1));
  await assert.rejects(readDecryptionKeys(dir.path), /large: a key has at most 1048576 bytes/);
  await rm(`${dir.path}/large`);
  await symlink("a.pem", `${dir.path}/link`);
  await assert.rejects(readDecryptionKeys(dir.path), { code: "failed-precondition" });
  await assert.rejects(readDecryptionKeys(`${dir.path}/absent`), /unable to get decryption keys/);
});
