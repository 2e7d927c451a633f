import { once } from "node:events";
import { chmodSync, fstatSync, lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CodedError, isErrno } from "#pkg/errors.ts";
import { AT, LOCK, O } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

const connectTimeoutMs = 1_000;
const lockTimeoutMs = 10_000;
const lockPollMs = 5;

/**
 * The socket by which a group is found. At most one process has it: whoever binds it is the group's
 * supervisor.
 *
 * `release` takes the name away in the same turn, so that nobody finds a supervisor that has
 * decided to end; who is connected stays connected.
 */
export class GroupSocket {
  readonly server: Server;
  readonly #path: string;
  readonly #inode: bigint;
  #isReleased = false;

  private constructor(server: Server, path: string) {
    this.server = server;
    this.#path = path;
    this.#inode = lstatSync(path, { bigint: true }).ino;
  }

  /** Undefined when a live process has it. A socket file that nobody listens on is replaced. */
  static async bind(
    sys: Syscalls,
    path: string,
    onConnection: (socket: Socket) => void,
  ): Promise<GroupSocket | undefined> {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // Without the lock two that find a dead socket could each remove what the other has just bound.
    using _lock = await lockFile(sys, `${path}.lock`);
    const server = createServer(onConnection);
    try {
      await listen(server, path);
    } catch (error) {
      if (!isErrno(error, "EADDRINUSE")) throw error;
      if (await answers(path)) return undefined;
      unlinkSync(path);
      await listen(server, path);
    }
    return new GroupSocket(server, path);
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    try {
      // Closing the server would remove the file too, but only of this name and in its own time.
      if (lstatSync(this.#path, { bigint: true }).ino === this.#inode) unlinkSync(this.#path);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, "listening");
  chmodSync(path, 0o600);
}

/** Whether somebody accepts connections there. */
export async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(connectTimeoutMs) });
    return true;
  } catch (error) {
    if (isErrno(error, "ECONNREFUSED", "ENOENT")) return false;
    throw error;
  } finally {
    socket.destroy();
  }
}

/** Holds the lock until disposed, which removes the file: it must not outlive what it protects. */
async function lockFile(sys: Syscalls, path: string): Promise<Disposable> {
  for (let waitedMs = 0; waitedMs < lockTimeoutMs; waitedMs += lockPollMs) {
    const lock = tryLock(sys, path);
    if (lock) return lock;
    await sleep(lockPollMs);
  }
  throw new CodedError("deadline-exceeded", `${path} is held by another process`);
}

function tryLock(sys: Syscalls, path: string): Disposable | undefined {
  const fd = sys.openat(AT.FDCWD, path, O.CREAT | O.RDWR, 0o600);
  using undo = new DisposableStack();
  undo.defer(() => sys.close(fd));
  try {
    sys.flock(fd, LOCK.EX | LOCK.NB);
  } catch (error) {
    if (isErrno(error, "EAGAIN")) return undefined;
    throw error;
  }
  // The holder before may have removed the file between our opening and our locking it.
  const named = lstatSync(path, { throwIfNoEntry: false });
  if (named?.ino !== fstatSync(fd).ino) return undefined;
  const held = undo.move();
  held.defer(() => unlinkSync(path));
  return held;
}
