import { readSync } from "node:fs";
import { procPath } from "#pkg/archive/file-attributes.ts";
import { type ByteString, shown } from "#pkg/archive/tar-entry.ts";
import { joinPath, kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import { type NewTarEntry, TarWriter } from "#pkg/archive/tar-writer.ts";
import { whiteoutPrefix } from "#pkg/archive/whiteout.ts";
import { CodedError, isErrno } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import type { Fd, FileStat, Syscalls } from "#pkg/sys/syscall.ts";

/** One name of the upper tree: its directory, itself, where it is. */
export interface Changed {
  readonly parent: Fd;
  readonly name: ByteString;
  readonly path: ByteString;
  readonly stat: FileStat;
}

const readBytes = 1 << 20;
const capability = "security.capability";

/**
 * Writes changes of a tree as a layer: parents before what is in them, hard links once and then as
 * links, whiteouts for what is gone. Times are whole seconds, of whiteouts 0; of attributes only
 * capabilities are kept. Everything is decided by the tree alone, so equal trees give equal bytes.
 *
 * Generators: the bytes are pulled, so that a slow reader holds the writer back.
 */
export class ChangeWriter {
  readonly #sys: Syscalls;
  readonly #root: Fd;
  readonly #mtimeMaxNs: bigint | undefined;
  readonly #chunks: Buffer[] = [];
  readonly #tar: TarWriter = new TarWriter((chunk) => this.#chunks.push(chunk));
  readonly #added = new Set<ByteString>();
  /** First name written of a file that has several. */
  readonly #firstNames = new Map<string, ByteString>();
  /** Names of such a file that did not change, in case another one did. */
  readonly #unchangedNames = new Map<string, ByteString[]>();

  /** `root`: the upper tree, for parents that did not change. */
  constructor(sys: Syscalls, root: Fd, mtimeMaxNs: bigint | undefined) {
    this.#sys = sys;
    this.#root = root;
    this.#mtimeMaxNs = mtimeMaxNs;
  }

  *removed(path: ByteString, name: ByteString): Generator<Buffer, void, undefined> {
    const parent = parentPath(path);
    yield* this.#parents(parent);
    this.#tar.begin({ type: "file", name: joinPath(parent, `${whiteoutPrefix}${name}`) });
    yield* this.#flush();
  }

  *changed(file: Changed): Generator<Buffer, void, undefined> {
    const type = file.stat.mode & S_IF.MT;
    if (type === S_IF.SOCK) return;
    const entry = this.#entryOf(file);
    if (type === S_IF.DIR || file.stat.nlink < 2) {
      yield* this.#write(file, entry);
      return;
    }
    const key = inodeKey(file.stat);
    const first = this.#firstNames.get(key);
    if (first !== undefined) {
      yield* this.#link(entry, file.path, first);
      return;
    }
    this.#firstNames.set(key, file.path);
    yield* this.#write(file, entry);
    // They would otherwise stay links to what the layer below has.
    for (const other of this.#unchangedNames.get(key) ?? []) {
      yield* this.#link(entry, other, file.path);
    }
    this.#unchangedNames.delete(key);
  }

  /** A name that did not change, of a file that has others. */
  *unchanged(file: Changed): Generator<Buffer, void, undefined> {
    const key = inodeKey(file.stat);
    const first = this.#firstNames.get(key);
    if (first !== undefined) {
      yield* this.#link(this.#entryOf(file), file.path, first);
      return;
    }
    const names = this.#unchangedNames.get(key);
    if (names) names.push(file.path);
    else this.#unchangedNames.set(key, [file.path]);
  }

  *finish(): Generator<Buffer, void, undefined> {
    this.#tar.finish();
    yield* this.#flush();
  }

  *#write(file: Changed, entry: NewTarEntry): Generator<Buffer, void, undefined> {
    yield* this.#parents(parentPath(file.path));
    if (entry.type === "directory") this.#added.add(file.path);
    this.#tar.begin(entry);
    yield* this.#flush();
    if (entry.type === "file") yield* this.#content(file);
  }

  *#link(
    entry: NewTarEntry,
    path: ByteString,
    first: ByteString,
  ): Generator<Buffer, void, undefined> {
    yield* this.#parents(parentPath(path));
    this.#tar.begin({ ...entry, type: "link", name: path, linkName: first });
    yield* this.#flush();
  }

  *#parents(path: ByteString): Generator<Buffer, void, undefined> {
    if (path === "" || this.#added.has(path)) return;
    yield* this.#parents(parentPath(path));
    const stat = this.#sys.fstatat(this.#root, kernelPath(path), AT.SYMLINK_NOFOLLOW);
    this.#added.add(path);
    this.#tar.begin(this.#entryOf({ parent: this.#root, name: path, path, stat }));
    yield* this.#flush();
  }

  *#content({ parent, name, path, stat }: Changed): Generator<Buffer, void, undefined> {
    if (stat.sizeBytes === 0) return;
    const fd = this.#sys.openat(parent, kernelPath(name), O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
    try {
      for (let left = stat.sizeBytes; left > 0; ) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(left, readBytes));
        const length = readSync(fd, buffer, 0, buffer.length, null);
        if (length === 0) {
          throw new CodedError("aborted", `${shown(path)} became shorter while it was read`);
        }
        this.#tar.data(buffer.subarray(0, length));
        left -= length;
        yield* this.#flush();
      }
    } finally {
      this.#sys.close(fd);
    }
  }

  #entryOf({ parent, name, path, stat }: Changed): NewTarEntry {
    const type = typeOf(stat.mode & S_IF.MT, path);
    const target = kernelPath(name);
    const { mtimeNs } = stat;
    const max = this.#mtimeMaxNs;
    return {
      type,
      name: type === "directory" ? `${path}/` : path,
      mode: stat.mode & 0o7777,
      uid: stat.uid,
      gid: stat.gid,
      sizeBytes: stat.sizeBytes,
      mtimeNs: max !== undefined && mtimeNs > max ? max : mtimeNs,
      xattrs: this.#capabilityOf(parent, name),
      ...(type === "symlink" && {
        linkName: this.#sys.readlinkat(parent, target).toString("latin1"),
      }),
      ...((type === "character" || type === "block") && { device: stat.rdev }),
    };
  }

  #capabilityOf(parent: Fd, name: ByteString): ReadonlyMap<ByteString, Buffer> {
    const value = readCapability(this.#sys, parent, name);
    return value === undefined ? new Map() : new Map([[capability, value]]);
  }

  *#flush(): Generator<Buffer, void, undefined> {
    yield* this.#chunks.splice(0);
  }
}

/** Undefined where there is none, or attributes are not supported. */
export function readCapability(sys: Syscalls, parent: Fd, name: ByteString): Buffer | undefined {
  try {
    return sys.lgetxattr(procPath(parent, name), capability);
  } catch (error) {
    if (isErrno(error, "ENOTSUP")) return undefined;
    throw error;
  }
}

function inodeKey({ dev, ino }: FileStat): string {
  return `${dev.major}:${dev.minor}:${ino}`;
}

function typeOf(type: number, path: ByteString): NewTarEntry["type"] {
  switch (type) {
    case S_IF.REG:
      return "file";
    case S_IF.DIR:
      return "directory";
    case S_IF.LNK:
      return "symlink";
    case S_IF.CHR:
      return "character";
    case S_IF.BLK:
      return "block";
    case S_IF.IFO:
      return "fifo";
    default:
      throw new CodedError("internal", `${shown(path)} has the unknown type ${type.toString(8)}`);
  }
}
