const owned = new WeakSet<ArrayBufferLike>();

/**
 * Says that whoever is given these bytes has their memory to himself, and may free it by `freeBytes`. Of bytes that are
 * a part of larger memory it is not believed.
 */
export function giveBytes<B extends Uint8Array>(bytes: B): B {
  const { buffer, byteLength } = bytes;
  if (buffer.byteLength === byteLength) owned.add(buffer);
  return bytes;
}

/**
 * Frees the memory that was given with these bytes, or that these are a part of: all views of it are empty then.
 * Nothing happens to other bytes.
 *
 * For what comes by megabytes: memory outside of the collector's heap hardly counts for it, until it has grown so much
 * that everything is gone through.
 */
export function freeBytes({ buffer }: Uint8Array): void {
  if (owned.delete(buffer) && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
