import { basename, dirname, isAbsolute, normalize, relative } from "node:path";
import { isErrno, notImplemented } from "#pkg/errors.ts";
import { AT, O, RESOLVE } from "#pkg/sys/constants.ts";
import type { DirFd, Fd, Syscalls } from "#pkg/sys/syscall.ts";

/** A path whose folder is open; what is made by its name lands below an allowed root. */
export interface AllowedPath extends Disposable {
  readonly dirFd: Fd;
  readonly name: string;
}

/**
 * The directories in which transforms may make things, whatever symlinks lie in them.
 *
 * A request names any path it likes: each is opened below its root, and never followed out of it.
 */
export class AllowedRoots {
  readonly #sys: Syscalls;
  readonly #roots: readonly string[];

  constructor(sys: Syscalls, roots: readonly string[]) {
    this.#sys = sys;
    this.#roots = roots.map(normalize);
  }

  /** Throws `not-implemented` for a path below none of the roots, as upstream; ENOENT where its folder is missing. */
  open(path: string, what: string): AllowedPath {
    const wanted = normalize(path);
    const root = this.#roots.find((candidate) => wanted.startsWith(`${candidate}/`));
    if (!isAbsolute(path) || root === undefined) {
      throw notImplemented(`no root ${JSON.stringify(path)} configured for ${what}`);
    }
    const below = relative(root, dirname(wanted)) || ".";
    const top = this.#sys.openat(AT.FDCWD, root, O.PATH | O.DIRECTORY);
    let dirFd: Fd;
    try {
      const how = { flags: O.PATH | O.DIRECTORY, resolve: RESOLVE.BENEATH };
      dirFd = this.#sys.openat2(top, below, how);
    } finally {
      this.#sys.close(top);
    }
    return { dirFd, name: basename(wanted), [Symbol.dispose]: () => this.#sys.close(dirFd) };
  }

  /** Undefined where it is not there. */
  tryStat(dirFd: DirFd, name: string): ReturnType<Syscalls["fstatat"]> | undefined {
    try {
      return this.#sys.fstatat(dirFd, name, AT.SYMLINK_NOFOLLOW);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
}
