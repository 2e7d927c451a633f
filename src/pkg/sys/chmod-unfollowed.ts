import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import type { DescriptorCalls, DirFd, FileCalls, Path } from "#pkg/sys/syscall.ts";

/**
 * Changes a mode without following a symlink, where `fchmodat` cannot: before 2.32 glibc refused the flag for every
 * file, and so does whatever else knows neither the system call (Linux 6.6) nor this way.
 *
 * Throws `ENOTSUP` for a symlink, as the system call does.
 */
export function chmodUnfollowed(
  sys: Pick<FileCalls & DescriptorCalls, "openat" | "fstatat" | "fchmodat" | "close">,
  dirFd: DirFd,
  path: Path,
  mode: number,
): void {
  const fd = sys.openat(dirFd, path, O.PATH | O.NOFOLLOW);
  try {
    const type = sys.fstatat(fd, "", AT.EMPTY_PATH).mode & S_IF.MT;
    if (type === S_IF.LNK) throw new SyscallError("ENOTSUP", "fchmodat", path);
    // A descriptor of this kind takes no fchmod; the file it stands for can be named through it.
    sys.fchmodat(AT.FDCWD, `/proc/self/fd/${fd}`, mode, 0);
  } finally {
    sys.close(fd);
  }
}
