import { access, readdir } from "node:fs/promises";
import { join } from "node:path";
import { failedPrecondition, isErrno } from "#pkg/errors.ts";

const metadata = "io.containerd.metadata.v1.bolt";
const snapshotter = /^io\.containerd\.snapshotter\.v1\./;

/**
 * Refuses a root that Go's containerd has used and this one has not.
 *
 * Its database cannot be read here, so none of its images and snapshots would be known: the first
 * collection would remove them all. Called before anything is written, so that the other daemon
 * finds its root as it left it.
 */
export async function assertNotForeignRoot(root: string): Promise<void> {
  if (await exists(join(root, metadata, "meta.sqlite"))) return;
  const theirs = [join(root, metadata, "meta.db")];
  for (const name of await namesIn(root)) {
    if (snapshotter.test(name)) theirs.push(join(root, name, "metadata.db"));
  }
  for (const path of theirs) {
    if (!(await exists(path))) continue;
    throw failedPrecondition(
      `root ${root} belongs to Go's containerd (it holds ${path}) and is left untouched; ` +
        "start with another --root",
    );
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
