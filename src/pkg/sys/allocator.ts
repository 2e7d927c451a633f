import { hasNative, native } from "#pkg/sys/libc.ts";

let trim: ((keepBytes: number) => number) | undefined;

/**
 * Gives the kernel back what was freed. The C library keeps it for what comes, in a heap for each of several threads;
 * after work that is not done all the time, nothing may come for hours.
 *
 * Takes some milliseconds. Does nothing where the C library has no such thing to do.
 */
export function returnFreedMemory(): void {
  if (!hasNative("malloc_trim")) return;
  trim ??= native<(keepBytes: number) => number>("malloc_trim", "int", ["size"]);
  trim(0);
}
