import { readFile } from "node:fs/promises";

/**
 * Whether this process is root only in a user namespace, where devices and many mounts are not to
 * be had.
 */
export async function isInUserNamespace(): Promise<boolean> {
  const map = await readFile("/proc/self/uid_map", "utf8");
  // The first namespace maps every id to itself.
  return !/^\s*0\s+0\s+4294967295\s*$/.test(map);
}
