import { type ErrnoName, SyscallError } from "#pkg/sys/errno.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

export type SyscallName = keyof Syscalls;

/** One call, with the arguments of that call's type. */
export type SyscallRecord = {
  [K in SyscallName]: { readonly name: K; readonly args: Parameters<Syscalls[K]> };
}[SyscallName];

// What a call answers that was not scripted. `void` succeeds, `fd` gives a new number, `value` must
// be scripted.
const answers = {
  mount: "void",
  umount2: "void",
  unmount: "promise",
  fsopen: "fd",
  fsconfigSetString: "void",
  fsconfigSetFlag: "void",
  fsconfigSetFd: "void",
  fsconfigCreate: "void",
  fsconfigReconfigure: "void",
  fsmount: "fd",
  moveMount: "void",
  openTree: "fd",
  mountSetattr: "void",
  mknodat: "void",
  mknod: "void",
  mkfifo: "void",
  utimensat: "void",
  futimens: "void",
  lchown: "void",
  fchownat: "void",
  fchown: "void",
  fchmodat: "void",
  fchmod: "void",
  openat: "fd",
  openat2: "fd",
  mkdirat: "void",
  unlinkat: "void",
  renameat2: "void",
  linkat: "void",
  symlinkat: "void",
  readlinkat: "value",
  fstatat: "value",
  statfs: "value",
  fstatfs: "value",
  syncfs: "void",
  fsync: "void",
  fdatasync: "void",
  ficlone: "void",
  copyFileRange: "value",
  lseek: "value",
  flock: "void",
  umask: "value",
  lsetxattr: "void",
  lgetxattr: "value",
  llistxattr: "value",
  lremovexattr: "void",
  fsetxattr: "void",
  fgetxattr: "value",
  flistxattr: "value",
  fremovexattr: "void",
  pidfdOpen: "fd",
  pidfdSendSignal: "void",
  pidfdGetInfo: "value",
  kill: "void",
  waitpid: "value",
  prctl: "value",
  setChildSubreaper: "void",
  isChildSubreaper: "value",
  prlimit: "value",
  setns: "void",
  unshare: "void",
  openUserNamespace: "fd",
  openOwningUserNamespace: "fd",
  gettid: "value",
  exitGroup: "void",
  close: "void",
  dup: "fd",
  dup3: "void",
  pipe2: "value",
  eventfd: "fd",
  getStatusFlags: "value",
  setStatusFlags: "void",
  isCloseOnExec: "value",
  setCloseOnExec: "void",
  getPipeSize: "value",
  setPipeSize: "value",
  getWindowSize: "value",
  setWindowSize: "void",
  openPty: "value",
  closeOnExecRange: "void",
  loopGetFree: "value",
  loopConfigure: "void",
  loopStatus: "value",
  loopSetFlags: "void",
  socketpair: "value",
  sendmsg: "value",
  recvmsg: "value",
  sendDatagram: "void",
  getPeerUid: "value",
} as const satisfies {
  [K in SyscallName]: ReturnType<Syscalls[K]> extends void
    ? "void"
    : ReturnType<Syscalls[K]> extends Promise<void>
      ? "promise"
      : "fd" | "value";
};

type AnyScript = (...args: readonly unknown[]) => unknown;

/** Numbers no real descriptor of a test process has, so that a mix-up fails with EBADF. */
const firstFakeFd = 1_000_000;

/**
 * A kernel that only takes notes.
 *
 * `sys` is handed to the code under test; `calls` is what it did, in order. A call that returns
 * nothing succeeds, one that opens something returns a new number (`openFds` holds those not closed
 * yet), any other must be scripted with `on`, else it throws an error that says so.
 */
export class FakeSyscalls {
  readonly sys: Syscalls;
  readonly calls: SyscallRecord[] = [];
  readonly openFds: Set<Fd> = new Set();
  readonly #scripts = new Map<SyscallName, AnyScript>();
  readonly #failures = new Map<SyscallName, ErrnoName[]>();
  #nextFd = firstFakeFd;

  constructor() {
    const calls: Partial<Record<SyscallName, AnyScript>> = {};
    for (const name of Object.keys(answers)) {
      const known = name as SyscallName; // -- keys of a record over SyscallName
      calls[known] = (...args) => this.#call(known, args);
    }
    // -- every name of the table, which its type says is complete
    this.sys = calls as unknown as Syscalls;
  }

  /** Answers every further call of this name. The call is recorded before. */
  on<K extends SyscallName>(
    name: K,
    script: (...args: Parameters<Syscalls[K]>) => ReturnType<Syscalls[K]>,
  ): this {
    // -- recorded calls of this name have these arguments
    this.#scripts.set(name, script as unknown as AnyScript);
    return this;
  }

  /** The next call of this name, or the one after those already told to, is refused. */
  failOnce(name: SyscallName, errno: ErrnoName): this {
    const queue = this.#failures.get(name) ?? [];
    queue.push(errno);
    this.#failures.set(name, queue);
    return this;
  }

  /** The arguments of each call of this name. */
  callsOf<K extends SyscallName>(name: K): Parameters<Syscalls[K]>[] {
    return this.calls.flatMap((call) =>
      // -- the record's name decides the type of its arguments
      call.name === name ? [call.args as Parameters<Syscalls[K]>] : [],
    );
  }

  names(): SyscallName[] {
    return this.calls.map((call) => call.name);
  }

  #call(name: SyscallName, args: readonly unknown[]): unknown {
    // -- the only caller is `sys`, whose type gave these arguments
    this.calls.push({ name, args } as unknown as SyscallRecord);
    const errno = this.#failures.get(name)?.shift();
    if (errno !== undefined) {
      const error = new SyscallError(errno, name, firstPath(args));
      if (answers[name] === "promise") return Promise.reject(error);
      throw error;
    }
    const script = this.#scripts.get(name);
    const result = script === undefined ? this.#answer(name) : script(...args);
    if (name === "close") this.openFds.delete(Number(args[0]));
    return result;
  }

  #answer(name: SyscallName): Fd | Promise<void> | undefined {
    switch (answers[name]) {
      case "void":
        return undefined;
      case "fd": {
        const fd = this.#nextFd++;
        this.openFds.add(fd);
        return fd;
      }
      case "promise":
        return Promise.resolve();
      case "value":
        throw new Error(`fake syscalls: no result scripted for ${name}`);
    }
  }
}

function firstPath(args: readonly unknown[]): Path | undefined {
  return args.find((arg) => typeof arg === "string" || Buffer.isBuffer(arg));
}
