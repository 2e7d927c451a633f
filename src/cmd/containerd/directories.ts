import { chmod, mkdir } from "node:fs/promises";
import { CodedError, isErrno, wrap } from "#pkg/errors.ts";

/**
 * Makes the folders that everything else stands in.
 *
 * The root is for the daemon alone (0700, also when an older daemon left it wider): what
 * containers' images hold must not be reached by a local user. The state is passed through by
 * remapped containers, so it may be entered but not listed (0711); each plugin restricts its own
 * part.
 */
export async function makeTopLevelDirectories(dirs: {
  readonly root: string;
  readonly state: string;
  readonly temp: string;
}): Promise<void> {
  const { root, state, temp } = dirs;
  if (root === "") throw new CodedError("invalid-argument", "root must be specified");
  if (state === "") throw new CodedError("invalid-argument", "state must be specified");
  if (root === state) {
    throw new CodedError("invalid-argument", "root and state must be different paths");
  }
  await makePrivate(root);
  await make(state, 0o711);
  if (temp !== "") await makePrivate(temp);
}

async function makePrivate(path: string): Promise<void> {
  await make(path, 0o700);
  try {
    await chmod(path, 0o700);
  } catch (error) {
    // Rootless without a user namespace: the folder belongs to somebody who gave us the right to
    // use it.
    if (!isErrno(error, "EPERM", "EACCES")) throw error;
  }
}

async function make(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode });
  } catch (error) {
    throw wrap("failed to create a top-level directory", error);
  }
}
