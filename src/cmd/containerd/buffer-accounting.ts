import { setFlagsFromString } from "node:v8";

const supportedMajor = 26;

/**
 * Has V8 judge buffers by the size of the whole heap.
 *
 * Left to itself it looks through all of the heap whenever a fixed amount of buffers has come since
 * the last time. Every message and every part of a blob is a buffer here: a daemon that listed
 * containers spent more than half of its time on that. Neither peak nor rest grow by it.
 */
export function countBuffersWithHeap(): void {
  // Another V8 may not have the flag, and would say so on standard error.
  if (Number(process.versions.node.split(".")[0]) !== supportedMajor) return;
  setFlagsFromString("--external-memory-accounted-in-global-limit");
}
