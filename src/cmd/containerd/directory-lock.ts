import { closeSync, constants, openSync } from "node:fs";
import { CodedError, isErrno } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { LOCK } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Keeps a second daemon out of a folder for as long as this one lives. The lock is on the folder
 * itself: it leaves no file behind, and the kernel drops it with the process.
 */
export function lockDirectory(
  sys: Pick<Syscalls, "flock">,
  dir: string,
  { what, logger }: { what: string; logger: Logger },
): Disposable {
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    sys.flock(fd, LOCK.EX | LOCK.NB);
  } catch (error) {
    closeSync(fd);
    if (isErrno(error, "EAGAIN")) {
      const message = `${what} ${dir} is in use by another containerd`;
      throw new CodedError("unavailable", message, { cause: error });
    }
    // Some network file systems have no such locks for folders. The database has one of its own.
    if (!isErrno(error, "EBADF", "ENOLCK", "ENOTSUP", "EINVAL")) throw error;
    logger.warn(`${what} cannot be locked`, { path: dir, error });
    return { [Symbol.dispose]() {} };
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}
