import { open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

let serial = 0;

/**
 * Replaces a file so that after a crash it is the old one or the new one, whole.
 *
 * When this resolves the new one is on disk, name and content.
 */
export async function writeDurably(path: string, content: string, mode = 0o600): Promise<void> {
  serial += 1;
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.${serial}`);
  try {
    {
      await using file = await open(temporary, "wx", mode);
      await file.writeFile(content);
      await file.chmod(mode);
      await file.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Removes what writers that were killed have left beside the files of a directory. */
export async function removeHalfWritten(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^\..+\.json\.\d+\.\d+$/.test(name));
  for (const name of names) await rm(join(directory, name), { force: true });
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}
