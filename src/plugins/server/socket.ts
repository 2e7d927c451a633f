import { chown, lstat, mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { dirname } from "node:path";
import { once } from "node:events";
import { CodedError, isErrno } from "#pkg/errors.ts";

/**
 * Long enough for a daemon that is busy; one that does not even accept within it is taken for
 * alive.
 */
const probeTimeoutMs = 2000;

/** As upstream: the group may speak to the daemon as root may. */
export const socketMode = 0o660;

/**
 * Refuses a path at which somebody listens, or that is something else than a socket. A socket that
 * nobody holds any more is left to be replaced.
 */
export async function assertUnserved(path: string): Promise<void> {
  try {
    const file = await lstat(path);
    if (!file.isSocket()) {
      throw new CodedError("already-exists", `listen unix ${path}: a file that is no socket`);
    }
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return;
    throw error;
  }
  if (await isServed(path)) {
    throw new CodedError("already-exists", `listen unix ${path}: bind: address already in use`);
  }
}

async function isServed(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(probeTimeoutMs) });
    return true;
  } catch (error) {
    // A full backlog is EAGAIN: there is a listener. So it is when nothing was answered in time.
    if (isErrno(error, "ECONNREFUSED", "ENOENT", "ENOTSOCK")) return false;
    if (isErrno(error, "EAGAIN") || (error instanceof Error && error.name === "AbortError")) {
      return true;
    }
    throw error;
  } finally {
    socket.destroy();
  }
}

/** Makes the folder of a socket where there is none: for its owner and group, like the socket. */
export async function makeSocketDir(path: string, uid: number, gid: number): Promise<void> {
  const dir = dirname(path);
  const made = await mkdir(dir, { recursive: true, mode: 0o770 });
  if (made !== undefined) await chown(dir, uid, gid);
}
