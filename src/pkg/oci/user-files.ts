import { type FileHandle, open } from "node:fs/promises";
import { CodedError, invalidArgument, isErrno, messageOf } from "#pkg/errors.ts";
import { AT, O, RESOLVE, S_IF } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** Files of a container's root that say who is who in it. */
export interface RootFiles {
  /** Text of `etc/passwd` or `etc/group`; undefined where there is none. */
  read(path: "etc/passwd" | "etc/group"): Promise<string | undefined>;
}

/** Real ones are below 1 MiB; an image may hold anything (CVE-2026-47262). */
export const userFileMax = 10 * 1024 * 1024;

const chunkBytes = 64 * 1024;

/**
 * Reads in a directory that is some container's root, without ever leaving it.
 *
 * Any chain of links is followed as the container itself would see it: an absolute one begins at
 * this root, and `..` does not lead above it. The kernel does that (openat2), at most 40 links long,
 * and so nobody can swap a directory meanwhile. What is no regular file is not even opened: to open
 * a device can do something. Throws `invalid-argument` for such a file and for one that is too long.
 */
export class DirectoryRoot implements RootFiles {
  readonly #sys: Syscalls;
  readonly #path: string;

  constructor(sys: Syscalls, path: string) {
    this.#sys = sys;
    this.#path = path;
  }

  async read(path: "etc/passwd" | "etc/group"): Promise<string | undefined> {
    const sys = this.#sys;
    using stack = new DisposableStack();
    const root = sys.openat(AT.FDCWD, this.#path, O.PATH | O.DIRECTORY);
    stack.defer(() => sys.close(root));
    let found: number;
    try {
      found = sys.openat2(root, path, { flags: O.PATH, resolve: RESOLVE.IN_ROOT });
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
      throw new CodedError("unknown", `${path}: ${messageOf(error)}`, { cause: error });
    }
    stack.defer(() => sys.close(found));
    if ((sys.fstatat(found, "", AT.EMPTY_PATH).mode & S_IF.MT) !== S_IF.REG) {
      throw invalidArgument(`${path} is not a regular file`);
    }
    await using file = await open(`/proc/self/fd/${found}`, "r");
    return await readAtMost(file, path);
  }
}

async function readAtMost(file: FileHandle, path: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Not by the size it claims: a file may grow, and one of a FUSE root may lie.
  for (;;) {
    const buffer = Buffer.alloc(chunkBytes);
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, size);
    if (bytesRead === 0) return Buffer.concat(chunks).toString("utf8");
    size += bytesRead;
    if (size > userFileMax) throw invalidArgument(`"${path}" exceeds ${userFileMax} bytes`);
    chunks.push(buffer.subarray(0, bytesRead));
  }
}
