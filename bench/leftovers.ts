import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";

/**
 * Removes the folders that OCI runtimes make for a namespace and leave when its last container has gone. The room
 * sees to its own namespace; this is for those that a bench adds.
 */
export async function removeNamespaceFolders(namespace: string): Promise<void> {
  const base = "/sys/fs/cgroup";
  const hierarchies = (await readdir(base, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(base, entry.name));
  for (const parent of [base, ...hierarchies, "/run/containerd/runc"]) {
    try {
      await rmdir(join(parent, namespace));
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
}
