import { createWriteStream } from "node:fs";
import { Socket } from "node:net";
import { dirname } from "node:path";
import type { Readable, Writable } from "node:stream";
import { CodedError, isErrno, messageOf } from "#pkg/errors.ts";
import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** The client's end of an output: a FIFO or a file. */
export interface OutputEnd {
  readonly stream: Writable;
  readonly fd: number;
}

/**
 * The client's end of an input, a FIFO, and what keeps it from ending before the client says so.
 */
export interface InputEnd {
  readonly stream: Readable;
  readonly fd: number;
  /** Undefined once it is released. */
  readonly keeper: number | undefined;
  /** Lets the input end once the client has closed its own side. Twice is once. */
  release(): void;
}

/**
 * Opens what the client reads.
 *
 * A FIFO is opened for both directions: opening never waits for the client, writing never meets a
 * FIFO without a reader, and what was written stays readable for a client that comes later.
 */
export function openOutput(sys: Syscalls, path: string): OutputEnd {
  const [words, flags] = isFifo(sys, path)
    ? (["w/o fifo", O.RDWR | O.NONBLOCK] as const)
    : (["file", O.WRONLY | O.APPEND] as const);
  const fd = attempt(`opening ${words} ${JSON.stringify(path)} failed`, () =>
    sys.openat(AT.FDCWD, path, flags),
  );
  return resumeOutput(sys, fd, path);
}

/** What `openOutput` had opened in an earlier supervisor. Takes the descriptor over. */
export function resumeOutput(sys: Syscalls, fd: number, path: string): OutputEnd {
  const isPipe = (sys.fstatat(fd, "", AT.EMPTY_PATH).mode & S_IF.MT) === S_IF.IFO;
  const stream = isPipe
    ? new Socket({ fd, readable: false, writable: true })
    : createWriteStream(path, { fd });
  return { fd, stream };
}

/** Opens what the client writes. Not to be called for anything but a FIFO. */
export function openInput(sys: Syscalls, path: string): InputEnd {
  const open = (flags: number): number =>
    attempt(`opening ${path} failed`, () => sys.openat(AT.FDCWD, path, flags | O.NONBLOCK));
  const fd = open(O.RDONLY);
  try {
    return resumeInput(sys, fd, open(O.WRONLY));
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/** What `openInput` had opened in an earlier supervisor. Takes both descriptors over. */
export function resumeInput(sys: Syscalls, fd: number, keeperFd: number | undefined): InputEnd {
  let keeper = keeperFd;
  return {
    fd,
    stream: new Socket({ fd, readable: true, writable: false }),
    get keeper() {
      return keeper;
    },
    release: () => {
      if (keeper !== undefined) sys.close(keeper);
      keeper = undefined;
    },
  };
}

export function isFifo(sys: Syscalls, path: string): boolean {
  return attempt(`opening ${path} failed`, () => {
    return (sys.fstatat(AT.FDCWD, path, 0).mode & S_IF.MT) === S_IF.IFO;
  });
}

/** Makes the file of a `file://` URI, as upstream with its directories. */
export function createLogFile(sys: Syscalls, path: string): void {
  makeDirectories(sys, dirname(path));
  try {
    sys.close(sys.openat(AT.FDCWD, path, O.APPEND | O.CREAT | O.WRONLY, 0o644));
  } catch (error) {
    throw new CodedError("unknown", `open ${path}: ${wordsOf(error)}`, { cause: error });
  }
}

// Node's recursive mkdir never ends where a file system (/proc) has the parent and says ENOENT all
// the same, and the path is the client's.
function makeDirectories(sys: Syscalls, path: string): void {
  if (tryMakeDirectory(sys, path) !== "parent missing") return;
  makeDirectories(sys, dirname(path));
  if (tryMakeDirectory(sys, path) === "parent missing") {
    throw new CodedError("unknown", `mkdir ${path}: no such file or directory`);
  }
}

function tryMakeDirectory(sys: Syscalls, path: string): "there" | "parent missing" {
  try {
    sys.mkdirat(AT.FDCWD, path, 0o755);
    return "there";
  } catch (error) {
    // What is there and no directory shows when the file is opened.
    if (isErrno(error, "EEXIST")) return "there";
    if (isErrno(error, "ENOENT") && dirname(path) !== path) return "parent missing";
    throw new CodedError("unknown", `mkdir ${path}: ${wordsOf(error)}`, { cause: error });
  }
}

/** As Go prints an errno: what follows call and path. */
function wordsOf(error: unknown): string {
  return messageOf(error).replace(/^.*: /, "");
}

function attempt<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw new CodedError("unknown", `containerd-shim: ${what}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
