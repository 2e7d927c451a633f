import { readdirSync, readSync } from "node:fs";
import { type Changed, ChangeWriter, readCapability } from "#pkg/archive/change-writer.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { joinPath, kernelPath } from "#pkg/archive/tree-path.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import type { Fd, FileStat, Syscalls } from "#pkg/sys/syscall.ts";

export interface CompareTreesOptions {
  readonly lower: Fd;
  readonly upper: Fd;
  /** No time in the layer is later. */
  readonly mtimeMaxNs?: bigint | undefined;
}

/**
 * The layer, in pieces, that makes the upper tree of the lower one. Equal trees give a layer
 * without entries.
 */
export function* compareTrees(
  sys: Syscalls,
  { lower, upper, mtimeMaxNs }: CompareTreesOptions,
): Generator<Buffer, void, undefined> {
  const comparison = new TreeComparison(sys, new ChangeWriter(sys, upper, mtimeMaxNs));
  yield* comparison.directories(lower, upper, "");
  yield* comparison.finish();
}

class TreeComparison {
  readonly #sys: Syscalls;
  readonly #writer: ChangeWriter;
  readonly #buffers: readonly [Buffer, Buffer] = [Buffer.alloc(1 << 18), Buffer.alloc(1 << 18)];

  constructor(sys: Syscalls, writer: ChangeWriter) {
    this.#sys = sys;
    this.#writer = writer;
  }

  *directories(
    lower: Fd | undefined,
    upper: Fd,
    path: ByteString,
  ): Generator<Buffer, void, undefined> {
    const lowerNames = lower === undefined ? new Set<ByteString>() : namesIn(lower);
    const upperNames = namesIn(upper);
    for (const name of [...lowerNames.union(upperNames)].sort()) {
      const at = joinPath(path, name);
      if (!upperNames.has(name)) {
        yield* this.#writer.removed(at, name);
        continue;
      }
      const stat = this.#stat(upper, name);
      const file = { parent: upper, name, path: at, stat };
      if (lower === undefined || !lowerNames.has(name)) {
        yield* this.#added(file);
      } else {
        yield* this.#both(lower, this.#stat(lower, name), file);
      }
    }
  }

  *finish(): Generator<Buffer, void, undefined> {
    yield* this.#writer.finish();
  }

  *#added(file: Changed): Generator<Buffer, void, undefined> {
    yield* this.#writer.changed(file);
    if (!isDirectory(file.stat)) return;
    yield* this.#within(file.parent, file.name, (upper) => {
      return this.directories(undefined, upper, file.path);
    });
  }

  *#both(lower: Fd, lowerStat: FileStat, file: Changed): Generator<Buffer, void, undefined> {
    const { name, path, stat } = file;
    const same = this.#isSame(lower, lowerStat, file);
    if (!same) yield* this.#writer.changed(file);
    else if (!isDirectory(stat) && stat.nlink > 1) yield* this.#writer.unchanged(file);
    if (!isDirectory(stat)) return;
    yield* this.#within(file.parent, name, (upper) => {
      if (!isDirectory(lowerStat)) return this.directories(undefined, upper, path);
      return this.#within(lower, name, (below) => this.directories(below, upper, path));
    });
  }

  *#within(
    parent: Fd,
    name: ByteString,
    use: (fd: Fd) => Generator<Buffer, void, undefined>,
  ): Generator<Buffer, void, undefined> {
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    const fd = this.#sys.openat(parent, kernelPath(name), flags);
    try {
      yield* use(fd);
    } finally {
      this.#sys.close(fd);
    }
  }

  /** As upstream: content counts only where times were cut to seconds, as archives cut them. */
  #isSame(lower: Fd, a: FileStat, { parent, name, stat: b }: Changed): boolean {
    if (a.ino === b.ino && sameDevice(a.dev, b.dev)) return true;
    if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
    if (!sameDevice(a.rdev, b.rdev)) return false;
    if (!this.#sameCapability(lower, parent, name)) return false;
    if (isDirectory(b)) return true;
    if (a.sizeBytes !== b.sizeBytes || a.mtimeNs !== b.mtimeNs) return false;
    if (b.mtimeNs % 1_000_000_000n !== 0n) return true;
    const type = b.mode & S_IF.MT;
    if (type === S_IF.LNK) return this.#sameTarget(lower, parent, name);
    return type !== S_IF.REG || b.sizeBytes === 0 || this.#sameContent(lower, parent, name);
  }

  #sameCapability(lower: Fd, upper: Fd, name: ByteString): boolean {
    const [a, b] = [lower, upper].map((fd) => readCapability(this.#sys, fd, name));
    return a === undefined || b === undefined ? a === b : a.equals(b);
  }

  #sameTarget(lower: Fd, upper: Fd, name: ByteString): boolean {
    const path = kernelPath(name);
    return this.#sys.readlinkat(lower, path).equals(this.#sys.readlinkat(upper, path));
  }

  #sameContent(lower: Fd, upper: Fd, name: ByteString): boolean {
    const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK;
    const a = this.#sys.openat(lower, kernelPath(name), flags);
    try {
      const b = this.#sys.openat(upper, kernelPath(name), flags);
      try {
        return this.#sameBytes(a, b);
      } finally {
        this.#sys.close(b);
      }
    } finally {
      this.#sys.close(a);
    }
  }

  #sameBytes(a: Fd, b: Fd): boolean {
    const [one, two] = this.#buffers;
    for (;;) {
      const length = fill(a, one);
      if (fill(b, two) !== length) return false;
      if (!one.subarray(0, length).equals(two.subarray(0, length))) return false;
      if (length < one.length) return true;
    }
  }

  #stat(parent: Fd, name: ByteString): FileStat {
    return this.#sys.fstatat(parent, kernelPath(name), AT.SYMLINK_NOFOLLOW);
  }
}

/** Fills the buffer, or as much as there is. */
function fill(fd: Fd, buffer: Buffer): number {
  let length = 0;
  while (length < buffer.length) {
    const read = readSync(fd, buffer, length, buffer.length - length, null);
    if (read === 0) break;
    length += read;
  }
  return length;
}

function namesIn(fd: Fd): Set<ByteString> {
  return new Set(readdirSync(`/proc/self/fd/${fd}`, { encoding: "latin1" }));
}

function isDirectory(stat: FileStat): boolean {
  return (stat.mode & S_IF.MT) === S_IF.DIR;
}

function sameDevice(
  a: { major: number; minor: number },
  b: { major: number; minor: number },
): boolean {
  return a.major === b.major && a.minor === b.minor;
}
