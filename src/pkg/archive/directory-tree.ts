import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { joinPath, kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import type { FileCalls, DescriptorCalls, Fd, Path } from "#pkg/sys/syscall.ts";

/**
 * An open directory of a tree. `path` is below the root and goes through no symlink; empty for the
 * root.
 */
export interface Directory {
  readonly fd: Fd;
  readonly path: ByteString;
}

/** Asked when a path's component is no directory: may put one there, or give up with undefined. */
export type OnObstacle = (
  parent: Directory,
  name: ByteString,
  obstacle: "missing" | "not-a-directory",
) => Directory | undefined;

const openMax = 64;
const linksMax = 255;

/**
 * Directories of a tree by their path, never outside of it.
 *
 * Every step opens one component relative to a directory already open, without following; symlinks
 * are read and walked here, from the tree's root when absolute. So no swap of a directory for a
 * symlink, in the archive or by anyone else, leads out. Directories stay open until `endEntry`, a
 * bounded number beyond.
 */
export class DirectoryTree implements Disposable {
  readonly root: Directory;
  readonly #sys: FileCalls & DescriptorCalls;
  /** By real path, the longest unused first. */
  readonly #open = new Map<ByteString, Directory>();
  /** Where a path with symlinks in it leads. */
  readonly #aliases = new Map<ByteString, ByteString>();
  /** Still usable by the current entry, but no longer found by path. */
  readonly #forgotten: Directory[] = [];

  constructor(sys: FileCalls & DescriptorCalls, root: Path) {
    this.#sys = sys;
    this.root = { fd: sys.openat(AT.FDCWD, root, O.RDONLY | O.DIRECTORY | O.NOFOLLOW), path: "" };
  }

  /**
   * The directory at a clean path, symlinks followed inside the root. Throws `ENOTDIR`, `ELOOP`.
   */
  resolve(path: ByteString, onObstacle: OnObstacle): Directory | undefined {
    if (path === "") return this.root;
    const known = this.#open.get(this.#aliases.get(path) ?? path);
    if (known) return this.#use(known);
    const found = this.#walk(path, onObstacle);
    if (found && found.path !== path) this.#aliases.set(path, found.path);
    return found;
  }

  /**
   * The directory `name` of `parent` itself; undefined when there is none or it is something else.
   */
  child(parent: Directory, name: ByteString): Directory | undefined {
    const path = joinPath(parent.path, name);
    const known = this.#open.get(path);
    if (known) return this.#use(known);
    try {
      const fd = this.#sys.openat(
        parent.fd,
        kernelPath(name),
        O.RDONLY | O.DIRECTORY | O.NOFOLLOW | O.NONBLOCK,
      );
      const directory = { fd, path };
      this.#open.set(path, directory);
      return directory;
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP")) return undefined;
      throw error;
    }
  }

  /** A directory or symlink is gone: what was known of paths through it no longer holds. */
  forget(): void {
    this.#forgotten.push(...this.#open.values());
    this.#open.clear();
    this.#aliases.clear();
  }

  /** No directory handed out before is used any more. */
  endEntry(): void {
    for (const { fd } of this.#forgotten.splice(0)) this.#sys.close(fd);
    if (this.#open.size > openMax) this.#closeDownTo(openMax / 2);
  }

  [Symbol.dispose](): void {
    this.forget();
    this.endEntry();
    this.#sys.close(this.root.fd);
  }

  #closeDownTo(count: number): void {
    for (const [path, { fd }] of this.#open) {
      if (this.#open.size <= count) return;
      this.#open.delete(path);
      this.#sys.close(fd);
    }
  }

  #use(directory: Directory): Directory {
    this.#open.delete(directory.path);
    this.#open.set(directory.path, directory);
    return directory;
  }

  #walk(path: ByteString, onObstacle: OnObstacle): Directory | undefined {
    const rest = path.split("/").reverse();
    let directory = this.root;
    let links = 0;
    for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        directory = this.#openReal(parentPath(directory.path));
        continue;
      }
      const next = this.child(directory, name);
      if (next) {
        directory = next;
        continue;
      }
      const target = this.#readLink(directory, name);
      if (target === undefined || target === "missing") {
        const made = onObstacle(directory, name, target ?? "not-a-directory");
        if (!made) return undefined;
        directory = made;
        continue;
      }
      if (++links > linksMax) throw new SyscallError("ELOOP", "openat", kernelPath(path));
      if (target.path.startsWith("/")) directory = this.root;
      rest.push(...target.path.split("/").reverse());
    }
    return directory;
  }

  #readLink(
    parent: Directory,
    name: ByteString,
  ): { readonly path: ByteString } | "missing" | undefined {
    try {
      const stat = this.#sys.fstatat(parent.fd, kernelPath(name), AT.SYMLINK_NOFOLLOW);
      if ((stat.mode & S_IF.MT) !== S_IF.LNK) return undefined;
      return { path: this.#sys.readlinkat(parent.fd, kernelPath(name)).toString("latin1") };
    } catch (error) {
      if (isErrno(error, "ENOENT")) return "missing";
      throw error;
    }
  }

  /** Of a path that goes through directories only. */
  #openReal(path: ByteString): Directory {
    let directory = this.root;
    if (path === "") return directory;
    for (const name of path.split("/")) {
      const next = this.child(directory, name);
      if (!next) throw new SyscallError("ENOTDIR", "openat", kernelPath(path));
      directory = next;
    }
    return directory;
  }
}
