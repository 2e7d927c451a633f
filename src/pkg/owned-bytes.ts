const owned = new WeakSet<Uint8Array>();

/**
 * Says that nobody but who is given these bytes has them: may be freed by `freeBytes`. Only for memory that nobody else
 * sees a part of; of a larger piece it is not believed.
 */
export function giveBytes<B extends Uint8Array>(bytes: B): B {
  const { buffer, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) owned.add(bytes);
  return bytes;
}

/**
 * Frees the memory of bytes that were given, which are none then; nothing happens to others.
 *
 * For what comes by megabytes: memory outside of the collector's heap hardly counts for it, until it has grown so much
 * that everything is gone through.
 */
export function freeBytes(bytes: Uint8Array): void {
  if (owned.delete(bytes)) (bytes.buffer as ArrayBuffer).transfer(0); // -- `giveBytes` saw that it is one
}
