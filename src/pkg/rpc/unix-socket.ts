import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, chown, lstat, rename, unlink } from "node:fs/promises";
import type { Server } from "node:net";
import { dirname, join } from "node:path";
import { invalidArgument, isErrno } from "#pkg/errors.ts";

export interface UnixSocketOptions {
  /** Permission bits of the socket file. */
  readonly mode: number;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
}

/** sockaddr_un has 108 bytes, one of which ends the path. */
export const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Listens at `path` and gives back what removes the socket file again.
 *
 * The socket is bound under another name, given its mode and owner, and renamed into place: nobody can connect
 * before it is restricted, and a stale socket file is replaced in one step. Disposing leaves the file of a successor
 * that has meanwhile taken the path alone; it does not close the server.
 */
export async function listenUnix(
  server: Server,
  path: string,
  options: UnixSocketOptions,
): Promise<AsyncDisposable> {
  const bound = join(dirname(path), `.${randomBytes(4).toString("hex")}`);
  for (const name of [path, bound]) {
    if (Buffer.byteLength(name) > SOCKET_PATH_BYTES_MAX) {
      throw invalidArgument(`socket path "${name}" is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
    }
  }
  server.listen(bound);
  await once(server, "listening");
  try {
    await chmod(bound, options.mode);
    if (options.uid !== undefined || options.gid !== undefined) {
      await chown(bound, options.uid ?? process.getuid?.() ?? -1, options.gid ?? -1);
    }
    const { ino, dev } = await lstat(bound);
    await rename(bound, path);
    return { [Symbol.asyncDispose]: () => removeSocket(path, { ino, dev }) };
  } catch (error) {
    server.close();
    await unlink(bound);
    throw error;
  }
}

async function removeSocket(path: string, ours: { ino: number; dev: number }): Promise<void> {
  try {
    const { ino, dev } = await lstat(path);
    if (ino === ours.ino && dev === ours.dev) await unlink(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}
