import { readdirSync } from "node:fs";
import { isWhiteoutNode } from "#pkg/archive/lower-layers.ts";
import type { Directory, DirectoryTree } from "#pkg/archive/directory-tree.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { basePath, joinPath, kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import { removeTree } from "#pkg/archive/tree-walk.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT, S_IF } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import type { FileStat, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * How a layer hides what is below it: in an overlay's upper directory by a device 0:0 and a mark on
 * the directory (`overlay`, or `overlay-user` with the marks that user namespaces may set), in a
 * merged tree by removing it.
 */
export type WhiteoutForm = "overlay" | "overlay-user" | "remove";

const whiteoutDevice = { major: 0, minor: 0 };

/**
 * Tells apart what this layer brought from what was in the tree before, so that whiteouts hide only
 * the latter, in whatever order they come.
 */
export class LowerContent {
  readonly #sys: Syscalls;
  readonly #tree: DirectoryTree;
  readonly #form: WhiteoutForm;
  /** The tree was empty, so everything in it is of this layer. */
  readonly #isFresh: boolean;
  /** Real paths of this layer's entries and the directories above them. */
  readonly #mine = new Set<ByteString>();
  /** Directories in which nothing of the layers below is left. */
  readonly #hidden = new Set<ByteString>();
  #hidesRoot = false;
  /** Marks of this layer, by path. */
  readonly #opaque = new Set<ByteString>();
  readonly #whiteouts: ByteString[] = [];

  constructor(sys: Syscalls, tree: DirectoryTree, form: WhiteoutForm, isFresh: boolean) {
    this.#sys = sys;
    this.#tree = tree;
    this.#form = form;
    this.#isFresh = isFresh;
  }

  /** This layer has put something at the path. */
  add(path: ByteString): void {
    if (this.#isFresh) return;
    for (let p = path; p !== "" && !this.#mine.has(p); p = parentPath(p)) this.#mine.add(p);
  }

  /**
   * Hides `name` of layers below. `isNeeded` is asked before a mark is made: one that hides nothing
   * would be seen, in a directory that only this layer has.
   */
  hide(
    parent: Directory,
    name: ByteString,
    owner: { uid: number; gid: number },
    isNeeded: () => boolean,
  ): void {
    if (this.#form === "remove") {
      const stat = this.#stat(parent, name);
      if (stat && !this.#keepOwn(parent, name, stat)) this.#remove(parent, name);
      return;
    }
    const stat = this.#stat(parent, name);
    if (stat && this.#keepOwn(parent, name, stat)) return;
    if (stat) this.#remove(parent, name);
    if (isNeeded()) this.#makeWhiteout(parent, name, owner);
  }

  /** Hides all that layers below have in the directory. */
  hideAll(directory: Directory): void {
    if (this.#form !== "remove" && directory.path === "") this.#hidesRoot = true;
    else if (this.#form !== "remove") this.#markOpaque(directory);
    if (this.#isFresh || this.#isCleared(directory.path)) return;
    this.#prune(directory);
    this.#hidden.add(directory.path);
  }

  /**
   * Whether the layer hides all that is below it. overlayfs knows no opaque root: `hideTop` does it
   * by name.
   */
  get hidesRoot(): boolean {
    return this.#hidesRoot;
  }

  /** Every mark made for a name that is gone, also where something else stands by now. */
  get whiteouts(): readonly ByteString[] {
    return this.#whiteouts;
  }

  /** Whether the layer has said, so far, that nothing below shows through at the path. */
  isHidden(path: ByteString): boolean {
    return this.#hidesRoot || this.#opaque.has(path) || hasAncestorIn(this.#opaque, path);
  }

  /** Removes marks below directories that hide all anyway: in those, overlayfs would list them. */
  dropIdleMarks(): void {
    if (!this.#hidesRoot && this.#opaque.size === 0) return;
    for (const path of this.#whiteouts) {
      if (!this.#hidesRoot && !hasAncestorIn(this.#opaque, path)) continue;
      const parent = this.#tree.resolve(parentPath(path), () => undefined);
      const name = basePath(path);
      if (parent && this.isWhiteout(parent, name)) {
        this.#sys.unlinkat(parent.fd, kernelPath(name), 0);
      }
      this.#tree.endEntry();
    }
  }

  /** Hides names at the top, of layers below that are in other directories. */
  hideTop(names: Iterable<ByteString>): void {
    for (const name of names) {
      const directory = this.#tree.child(this.#tree.root, name);
      if (directory) this.#markOpaque(directory);
      else if (!this.#stat(this.#tree.root, name)) {
        this.#makeWhiteout(this.#tree.root, name, { uid: 0, gid: 0 });
      }
    }
  }

  isWhiteout(parent: Directory, name: ByteString): boolean {
    if (this.#form === "remove") return false;
    const stat = this.#stat(parent, name);
    return stat !== undefined && isWhiteoutNode(stat);
  }

  /** A new directory, or the one that is there. What else is there goes, and hides what it hid. */
  makeDirectory(parent: Directory, name: ByteString): Directory {
    try {
      this.#sys.mkdirat(parent.fd, kernelPath(name), 0o755);
      return this.#openChild(parent, name);
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
    }
    const existing = this.#tree.child(parent, name);
    if (existing) return existing;
    this.clear(parent, name);
    this.#sys.mkdirat(parent.fd, kernelPath(name), 0o755);
    const directory = this.#openChild(parent, name);
    // A bare directory would let the one below show through, which the thing just removed did not.
    if (this.#form !== "remove") this.#markOpaque(directory);
    return directory;
  }

  /** Removes whatever has the name. */
  clear(parent: Directory, name: ByteString): void {
    this.#remove(parent, name);
  }

  #openChild(parent: Directory, name: ByteString): Directory {
    const directory = this.#tree.child(parent, name);
    if (!directory) throw new SyscallError("ENOTDIR", "openat", kernelPath(name));
    return directory;
  }

  /**
   * True when what is at the name came with this layer and stays; then only what is below it is
   * cleared.
   */
  #keepOwn(parent: Directory, name: ByteString, stat: FileStat): boolean {
    const path = joinPath(parent.path, name);
    if (!this.#isMine(path)) return false;
    if ((stat.mode & S_IF.MT) === S_IF.DIR) this.hideAll(this.#openChild(parent, name));
    return true;
  }

  #isMine(path: ByteString): boolean {
    return this.#isFresh || this.#mine.has(path);
  }

  #isCleared(path: ByteString): boolean {
    return this.#hidden.has(path) || hasAncestorIn(this.#hidden, path);
  }

  /** Removes what is not of this layer below the directory. */
  #prune(top: Directory): void {
    const pending: ByteString[] = [top.path];
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      const directory = path === top.path ? top : this.#tree.resolve(path, () => undefined);
      if (!directory) continue;
      const entries = readdirSync(`/proc/self/fd/${directory.fd}`, {
        withFileTypes: true,
        encoding: "latin1",
      });
      for (const entry of entries) {
        const child = joinPath(path, entry.name);
        if (!this.#isMine(child)) removeTree(this.#sys, directory.fd, entry.name);
        else if (entry.isDirectory() && !this.#hidden.has(child)) pending.push(child);
      }
    }
    this.#tree.forget();
  }

  #remove(parent: Directory, name: ByteString): void {
    try {
      // Most of what is replaced is a file, through which no path leads.
      const stat = this.#stat(parent, name);
      if (!stat) return;
      const type = stat.mode & S_IF.MT;
      if (type === S_IF.DIR || type === S_IF.LNK) this.#tree.forget();
      removeTree(this.#sys, parent.fd, name);
    } finally {
      this.#mine.delete(joinPath(parent.path, name));
    }
  }

  #makeWhiteout(parent: Directory, name: ByteString, owner: { uid: number; gid: number }): void {
    const path = kernelPath(name);
    this.#sys.mknodat(parent.fd, path, S_IF.CHR, whiteoutDevice);
    this.#whiteouts.push(joinPath(parent.path, name));
    this.#sys.fchownat(parent.fd, path, owner, AT.SYMLINK_NOFOLLOW);
  }

  #markOpaque(directory: Directory): void {
    const name = this.#form === "overlay" ? "trusted.overlay.opaque" : "user.overlay.opaque";
    this.#sys.fsetxattr(directory.fd, name, Buffer.from("y"));
    this.#opaque.add(directory.path);
  }

  #stat(parent: Directory, name: ByteString): FileStat | undefined {
    try {
      return this.#sys.fstatat(parent.fd, kernelPath(name), AT.SYMLINK_NOFOLLOW);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
}

function hasAncestorIn(paths: ReadonlySet<ByteString>, path: ByteString): boolean {
  for (let p = path; p !== ""; ) {
    p = parentPath(p);
    if (paths.has(p)) return true;
  }
  return false;
}
