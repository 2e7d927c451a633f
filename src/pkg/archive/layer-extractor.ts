import { fchmodSync, ftruncateSync, readdirSync, writeSync } from "node:fs";
import { DirectoryTree, type Directory } from "#pkg/archive/directory-tree.ts";
import { applyToFd, applyToPlace, timesOf } from "#pkg/archive/file-attributes.ts";
import type { OpenQuestions } from "#pkg/archive/adopt-layer.ts";
import { LowerLayers } from "#pkg/archive/lower-layers.ts";
import { LowerContent, type WhiteoutForm } from "#pkg/archive/lower-content.ts";
import { type ByteString, invalidArchive, shown, type TarEntry } from "#pkg/archive/tar-entry.ts";
import type { TarHandler } from "#pkg/archive/tar-reader.ts";
import { basePath, cleanPath, joinPath, kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import { parseWhiteout } from "#pkg/archive/whiteout.ts";
import { CodedError, isErrno, messageOf, wrap } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import type { Fd, FileTimes, Syscalls } from "#pkg/sys/syscall.ts";

export interface ExtractOptions {
  readonly whiteouts: WhiteoutForm;
  /** Trees below this one, the nearest first: what directories the layer only implies look like. */
  readonly parents: readonly string[];
  /** In a user namespace devices cannot be made and are left out. */
  readonly devices: "make" | "skip";
}

export interface ExtractSummary extends OpenQuestions {
  /** What was left out, in words; bounded. */
  readonly warnings: readonly string[];
}

const warningsMax = 20;

/**
 * Writes the entries of a layer into a tree, nothing outside of it (features H5).
 *
 * One use: entries through `begin`, `data` and `end`, then `finish`. After an error the tree is in
 * no defined state.
 */
export class LayerExtractor implements TarHandler, Disposable {
  readonly #sys: Syscalls;
  readonly #options: ExtractOptions;
  readonly #tree: DirectoryTree;
  readonly #lower: LowerContent;
  readonly #parents: LowerLayers;
  readonly #implied = new Set<ByteString>();
  readonly #warnings: string[] = [];
  /** By real path; set last, since every file made in a directory changes its times. */
  readonly #directoryTimes = new Map<ByteString, FileTimes>();

  #file: { readonly fd: Fd; readonly entry: TarEntry } | undefined;
  #name: ByteString = "";

  constructor(sys: Syscalls, root: string, options: ExtractOptions) {
    this.#sys = sys;
    this.#options = options;
    this.#tree = new DirectoryTree(sys, root);
    this.#parents = new LowerLayers(sys, options.parents);
    const isFresh = readdirSync(`/proc/self/fd/${this.#tree.root.fd}`).length === 0;
    this.#lower = new LowerContent(sys, this.#tree, options.whiteouts, isFresh);
  }

  begin(entry: TarEntry): void {
    this.#name = entry.name;
    this.#guard(() => this.#begin(entry));
  }

  data(chunk: Buffer, offset: number): void {
    const file = this.#file;
    if (!file) return;
    try {
      const isSparse = file.entry.extents !== undefined;
      let written = 0;
      while (written < chunk.length) {
        const position = isSparse ? offset + written : null;
        written += writeSync(file.fd, chunk, written, chunk.length - written, position);
      }
    } catch (error) {
      throw this.#explain(error);
    }
  }

  end(): void {
    const file = this.#file;
    if (file) {
      this.#guard(() => {
        if (file.entry.extents) ftruncateSync(file.fd, file.entry.sizeBytes);
        applyToFd(this.#sys, file.fd, file.entry, this.#onIgnoredXattr);
      });
      this.#file = undefined;
      this.#sys.close(file.fd);
    }
    this.#tree.endEntry();
  }

  /** To be called when the archive is complete. */
  finish(): ExtractSummary {
    const { hidesRoot } = this.#lower;
    this.#guard(() => this.#lower.dropIdleMarks());
    if (hidesRoot) this.#guard(() => this.#lower.hideTop(this.#parents.topNames()));
    for (const [path, times] of this.#directoryTimes) {
      this.#name = path;
      this.#guard(() => {
        const directory = this.#realDirectory(path);
        // Gone or replaced by a later entry.
        if (directory) this.#sys.futimens(directory.fd, times);
        this.#tree.endEntry();
      });
    }
    const whiteouts = this.#options.parents.length > 0 ? [] : this.#lower.whiteouts;
    return { implied: [...this.#implied], whiteouts, hidesRoot, warnings: this.#warnings };
  }

  [Symbol.dispose](): void {
    if (this.#file) this.#sys.close(this.#file.fd);
    this.#file = undefined;
    this.#tree[Symbol.dispose]();
    this.#parents[Symbol.dispose]();
  }

  #begin(entry: TarEntry): void {
    const path = cleanPath(entry.name);
    if (path === "") return;
    const base = basePath(path);
    const whiteout = parseWhiteout(base);
    if (whiteout?.kind === "ignored" || this.#isSkippedDevice(entry)) return;
    const parent = this.#parentOf(parentPath(path));
    if (whiteout?.kind === "opaque") return this.#lower.hideAll(parent);
    if (whiteout?.kind === "remove") {
      const hidden = joinPath(parent.path, whiteout.name);
      return this.#lower.hide(parent, whiteout.name, entry, () => !this.#parents.lacks(hidden));
    }
    this.#create(parent, base, entry);
    this.#lower.add(joinPath(parent.path, base));
  }

  #create(parent: Directory, base: ByteString, entry: TarEntry): void {
    switch (entry.type) {
      case "file": {
        const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
        const path = kernelPath(base);
        const fd = this.#replacing(parent, base, () => {
          return this.#sys.openat(parent.fd, path, flags, 0o600);
        });
        this.#file = { fd, entry };
        return;
      }
      case "directory":
        this.#createDirectory(parent, base, entry);
        return;
      case "link":
        this.#createLink(parent, base, entry);
        break;
      case "symlink":
        this.#replacing(parent, base, () => {
          this.#sys.symlinkat(kernelPath(entry.linkName), parent.fd, kernelPath(base));
        });
        break;
      default:
        this.#createNode(parent, base, entry);
    }
    applyToPlace(this.#sys, { parent: parent.fd, name: base }, entry, this.#onIgnoredXattr);
  }

  #createDirectory(parent: Directory, base: ByteString, entry: TarEntry): void {
    const directory = this.#lower.makeDirectory(parent, base);
    applyToFd(this.#sys, directory.fd, entry, this.#onIgnoredXattr);
    this.#implied.delete(directory.path);
    this.#directoryTimes.set(directory.path, timesOf(entry));
  }

  #createLink(parent: Directory, base: ByteString, entry: TarEntry): void {
    const path = cleanPath(entry.linkName);
    const targetParent = this.#tree.resolve(parentPath(path), () => undefined);
    if (path === "" || !targetParent) {
      throw invalidArchive(`hard link to ${shown(entry.linkName)}: no such file or directory`);
    }
    const from = { dirFd: targetParent.fd, path: kernelPath(basePath(path)) };
    const to = { dirFd: parent.fd, path: kernelPath(base) };
    if (this.#isSameFile(from, to)) return;
    this.#replacing(parent, base, () => this.#sys.linkat(from, to, 0));
  }

  #isSameFile(
    a: { dirFd: Fd; path: string | Buffer },
    b: { dirFd: Fd; path: string | Buffer },
  ): boolean {
    try {
      const [x, y] = [a, b].map((f) => this.#sys.fstatat(f.dirFd, f.path, AT.SYMLINK_NOFOLLOW));
      return x !== undefined && y !== undefined && x.ino === y.ino && sameDevice(x.dev, y.dev);
    } catch (error) {
      // The link is not there yet, or its target is not, which linking then says.
      if (isErrno(error, "ENOENT")) return false;
      throw error;
    }
  }

  #createNode(parent: Directory, base: ByteString, entry: TarEntry): void {
    const { major, minor } = entry.device;
    for (const number of [major, minor]) {
      if (number < 0 || number > 0xffff_ffff) {
        throw invalidArchive(`${shown(entry.name)}: device number ${number} is out of range`);
      }
    }
    const type =
      entry.type === "character" ? S_IF.CHR : entry.type === "block" ? S_IF.BLK : S_IF.IFO;
    const device = entry.type === "fifo" ? { major: 0, minor: 0 } : entry.device;
    this.#replacing(parent, base, () => {
      this.#sys.mknodat(parent.fd, kernelPath(base), type | 0o600, device);
    });
  }

  /** Makes a name, after removing what has it when it is taken. */
  #replacing<T>(parent: Directory, base: ByteString, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
    }
    this.#lower.clear(parent, base);
    return make();
  }

  #parentOf(path: ByteString): Directory {
    const found = this.#tree.resolve(path, (parent, name, obstacle) => {
      if (obstacle === "not-a-directory" && !this.#lower.isWhiteout(parent, name)) {
        throw new SyscallError("ENOTDIR", "mkparent", kernelPath(joinPath(parent.path, name)));
      }
      return this.#makeImplied(parent, name);
    });
    if (!found) throw new SyscallError("ENOENT", "mkparent", kernelPath(path));
    this.#lower.add(found.path);
    return found;
  }

  #makeImplied(parent: Directory, name: ByteString): Directory {
    const directory = this.#lower.makeDirectory(parent, name);
    // Whatever a set-group-id parent hands down: it may come by that bit only when the layer is given its parents.
    this.#sys.fchown(directory.fd, 0, 0);
    fchmodSync(directory.fd, 0o755);
    if (this.#lower.isHidden(directory.path)) return directory;
    const times = this.#parents.copyAttributes(directory);
    if (times) this.#directoryTimes.set(directory.path, times);
    else this.#implied.add(directory.path);
    return directory;
  }

  #realDirectory(path: ByteString): Directory | undefined {
    const found = this.#tree.resolve(path, () => undefined);
    return found?.path === path ? found : undefined;
  }

  #isSkippedDevice(entry: TarEntry): boolean {
    const isDevice = entry.type === "character" || entry.type === "block";
    if (!isDevice || this.#options.devices === "make") return false;
    this.#warn(`device ${shown(entry.name)} left out: not possible in a user namespace`);
    return true;
  }

  readonly #onIgnoredXattr = (name: ByteString, reason: string): void => {
    this.#warn(`attribute ${shown(name)} of ${shown(this.#name)} ${reason}`);
  };

  #warn(text: string): void {
    if (this.#warnings.length < warningsMax) this.#warnings.push(text);
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #explain(error: unknown): CodedError {
    const what = `unpack ${shown(this.#name)}`;
    if (isErrno(error, "ENOSPC", "EDQUOT")) {
      return new CodedError("resource-exhausted", `${what}: ${messageOf(error)}`, { cause: error });
    }
    return wrap(what, error);
  }
}

function sameDevice(
  a: { major: number; minor: number },
  b: { major: number; minor: number },
): boolean {
  return a.major === b.major && a.minor === b.minor;
}
