import { createDecipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { CodedError } from "#pkg/errors.ts";
import type { LayerKey } from "#pkg/ocicrypt/layer-key.ts";

/**
 * The plain bytes of a layer, as the encrypted ones come. Only at the end is it known whether they are what was
 * encrypted: throws `data-loss` then, so what was yielded must not be used before.
 */
export async function* decipherLayer(
  encrypted: AsyncIterable<Uint8Array>,
  { key, nonce, hmac }: LayerKey,
): AsyncGenerator<Buffer, void, undefined> {
  const decipher = createDecipheriv("aes-256-ctr", key, nonce);
  const digest = createHmac("sha256", key);
  for await (const chunk of encrypted) {
    digest.update(chunk);
    yield decipher.update(chunk);
  }
  yield decipher.final();
  if (!timingSafeEqual(digest.digest(), hmac)) {
    throw new CodedError("data-loss", "could not properly decrypt byte stream: HMAC differs");
  }
}
