import { invalidArgument } from "#pkg/errors.ts";

/** Labels of an object. None has an empty value: storing one removes the label. */
export type Labels = Readonly<Record<string, string>>;

const maxSize = 4096;

/** Whether key and value together are no longer than what is stored of a label. */
export function fitsLabel(key: string, value: string): boolean {
  return Buffer.byteLength(key) + Buffer.byteLength(value) <= maxSize;
}

/** Throws `invalid-argument` when key and value together are longer than 4096 bytes, upstream's bound. */
export function assertLabel(key: string, value: string): void {
  if (fitsLabel(key, value)) return;
  const size = Buffer.byteLength(key) + Buffer.byteLength(value);
  const shown = key.length > 64 ? key.slice(0, 64) : key;
  throw invalidArgument(
    `label key and value length (${size} bytes) greater than maximum size (${maxSize} bytes), key: ${shown}`,
  );
}

export function assertLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) assertLabel(key, value);
}

/** What is stored of labels that came from outside: those with an empty value are left out. */
export function withoutEmpty(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));
}

/**
 * True for keys that containerd and its CRI service act on. What comes from an image is never
 * stored under one.
 */
export function isReservedLabel(key: string): boolean {
  return key.startsWith("containerd.io/") || key.startsWith("io.cri-containerd");
}
