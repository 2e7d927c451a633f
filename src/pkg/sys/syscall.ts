/**
 * The door to the kernel, as the rest of the code sees it.
 *
 * Every function is one system call, synchronous, on the calling thread: those that may hang (a
 * mount or sync of a dead network file system) are run through `blocking.ts`. A refusal is thrown
 * as `SyscallError`. Descriptors handed out are always close-on-exec. Paths are bytes: a `Buffer`
 * where a name need not be UTF-8; either form with a NUL inside is refused with `EINVAL` before the
 * kernel sees it. Flags are numbers from `constants.ts`. `linux.ts` is the real one, `fake.ts`
 * records calls for tests.
 */
export interface Syscalls
  extends MountCalls,
    FileCalls,
    XattrCalls,
    ProcessCalls,
    UserNamespaceCalls,
    DescriptorCalls,
    LoopCalls,
    SocketCalls {}

export type Path = string | Buffer;
/** An open descriptor. */
export type Fd = number;
/** A descriptor of a directory, or `AT.FDCWD`. An absolute path ignores it. */
export type DirFd = number;

export interface MountOptions {
  /** What is mounted; the kernel ignores it for some file systems. */
  readonly source?: Path;
  readonly fstype?: string;
  /** `MS.*` */
  readonly flags?: number;
  /**
   * The file system's own options. One page at most, else `E2BIG`: the kernel would cut it off
   * silently.
   */
  readonly data?: Path;
}

export interface MountAttributes {
  /** `MOUNT_ATTR.*` to set and to clear. */
  readonly set?: number;
  readonly clear?: number;
  /** One of `MS.SHARED`, `MS.PRIVATE`, `MS.SLAVE`, `MS.UNBINDABLE`. */
  readonly propagation?: number;
  /** With `MOUNT_ATTR.IDMAP` in `set`: the user namespace whose mapping the mount takes. */
  readonly usernsFd?: Fd;
  /** `AT.RECURSIVE`, `AT.EMPTY_PATH`, `AT.SYMLINK_NOFOLLOW` */
  readonly flags?: number;
}

export interface MountCalls {
  mount(target: Path, options: MountOptions): void;
  /** `flags`: `MNT.*`. `EINVAL` when nothing is mounted there, `EBUSY` when it is in use. */
  umount2(target: Path, flags: number): void;
  /**
   * The same on another thread: it waits for every processor to have passed a point in the kernel,
   * and an overlay's for its upper directory's file system to be on the disk.
   */
  unmount(target: Path, flags: number): Promise<void>;
  /** A file system context; close it when done. */
  fsopen(fstype: string): Fd;
  fsconfigSetString(fs: Fd, key: string, value: Path): void;
  fsconfigSetFlag(fs: Fd, key: string): void;
  fsconfigSetFd(fs: Fd, key: string, value: Fd): void;
  fsconfigCreate(fs: Fd): void;
  fsconfigReconfigure(fs: Fd): void;
  /** A mount of the created context, attached nowhere yet. `attributes`: `MOUNT_ATTR.*`. */
  fsmount(fs: Fd, attributes: number): Fd;
  /**
   * Attaches a detached mount, or moves one. An empty `from.path` means the descriptor itself. A
   * link at `to` is followed, as `mount` does.
   */
  moveMount(from: { dirFd: DirFd; path: Path }, to: { dirFd: DirFd; path: Path }): void;
  /** `flags`: `OPEN_TREE.CLONE`, `AT.RECURSIVE`, `AT.EMPTY_PATH`, `AT.SYMLINK_NOFOLLOW`. */
  openTree(dirFd: DirFd, path: Path, flags: number): Fd;
  mountSetattr(dirFd: DirFd, path: Path, attributes: MountAttributes): void;
}

export interface Device {
  readonly major: number;
  readonly minor: number;
}

/** Nanoseconds since the epoch, negative before it. What is left out stays as it is. */
export interface FileTimes {
  readonly atimeNs?: bigint | undefined;
  readonly mtimeNs?: bigint | undefined;
}

export interface OpenHow {
  /** `O.*`; `O.CLOEXEC` is added. */
  readonly flags: number;
  /** Permission bits; only with `O.CREAT` or `O.TMPFILE`, lessened by the umask. */
  readonly mode?: number;
  /** `RESOLVE.*` */
  readonly resolve?: number;
}

export interface FileStat {
  /** Type (`S_IF.*`) and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly ino: bigint;
  readonly dev: Device;
  /** Of a device node: the device it stands for. */
  readonly rdev: Device;
  readonly sizeBytes: number;
  /** In units of 512 bytes: what `du` counts. */
  readonly blocks: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** 0 on kernels before 5.8. */
  readonly mountId: bigint;
  /** True for the root of a mount; undefined where the kernel does not say (before 5.8). */
  readonly isMountRoot: boolean | undefined;
}

export interface FileSystemStat {
  /** `FS_MAGIC.*` */
  readonly type: number;
  readonly blockSizeBytes: number;
  readonly blocks: bigint;
  readonly freeBlocks: bigint;
  /** Free to those without privilege. */
  readonly availableBlocks: bigint;
  readonly files: bigint;
  readonly freeFiles: bigint;
  /** `ST_*` mount flags: 1 read-only, 2 nosuid, 4 nodev, 8 noexec. */
  readonly flags: number;
}

export interface FileCalls {
  /**
   * `mode`: `S_IF.CHR`, `S_IF.BLK`, `S_IF.IFO`, `S_IF.REG` or `S_IF.SOCK` with permissions,
   * lessened by the umask.
   */
  mknodat(dirFd: DirFd, path: Path, mode: number, device: Device): void;
  mknod(path: Path, mode: number, device: Device): void;
  mkfifo(path: Path, mode: number): void;
  /** `flags`: 0 or `AT.SYMLINK_NOFOLLOW`. */
  utimensat(dirFd: DirFd, path: Path, times: FileTimes, flags: number): void;
  futimens(fd: Fd, times: FileTimes): void;
  lchown(path: Path, uid: number, gid: number): void;
  /** `flags`: 0, `AT.SYMLINK_NOFOLLOW`, `AT.EMPTY_PATH`. An id of 0xffffffff is left alone. */
  fchownat(dirFd: DirFd, path: Path, owner: { uid: number; gid: number }, flags: number): void;
  fchown(fd: Fd, uid: number, gid: number): void;
  /** With `AT.SYMLINK_NOFOLLOW` a symlink is refused with `ENOTSUP` rather than followed. */
  fchmodat(dirFd: DirFd, path: Path, mode: number, flags: number): void;
  fchmod(fd: Fd, mode: number): void;
  /** `O.CLOEXEC` is added. May block on a FIFO unless `O.NONBLOCK`. */
  openat(dirFd: DirFd, path: Path, flags: number, mode?: number): Fd;
  /** Tried again where the kernel saw a rename during the walk (`EAGAIN`), up to a bound. */
  openat2(dirFd: DirFd, path: Path, how: OpenHow): Fd;
  mkdirat(dirFd: DirFd, path: Path, mode: number): void;
  /** `flags`: 0, or `AT.REMOVEDIR` for an empty directory. */
  unlinkat(dirFd: DirFd, path: Path, flags: number): void;
  /** `flags`: `RENAME.*`. */
  renameat2(
    from: { dirFd: DirFd; path: Path },
    to: { dirFd: DirFd; path: Path },
    flags: number,
  ): void;
  /** `flags`: `AT.SYMLINK_FOLLOW`, `AT.EMPTY_PATH`. */
  linkat(from: { dirFd: DirFd; path: Path }, to: { dirFd: DirFd; path: Path }, flags: number): void;
  symlinkat(target: Path, dirFd: DirFd, path: Path): void;
  readlinkat(dirFd: DirFd, path: Path): Buffer;
  /**
   * statx(2). `flags`: `AT.SYMLINK_NOFOLLOW`, `AT.EMPTY_PATH` (with an empty path: the descriptor
   * itself).
   */
  fstatat(dirFd: DirFd, path: Path, flags: number): FileStat;
  statfs(path: Path): FileSystemStat;
  fstatfs(fd: Fd): FileSystemStat;
  /** Writes back everything of the file system that holds `fd`. */
  syncfs(fd: Fd): void;
  fsync(fd: Fd): void;
  fdatasync(fd: Fd): void;
  /** Shares the blocks of `source`; `ENOTSUP`, `EXDEV` or `EINVAL` where the file system cannot. */
  ficlone(destination: Fd, source: Fd): void;
  /** From and to the descriptors' own offsets. Returns how many bytes went, 0 at the end. */
  copyFileRange(source: Fd, destination: Fd, lengthBytes: number): number;
  /** `whence`: `SEEK.*`. Returns the new offset; `ENXIO` where no data follows. */
  lseek(fd: Fd, offset: number, whence: number): number;
  /** `operation`: `LOCK.*`. With `LOCK.NB` a taken lock is `EAGAIN`. */
  flock(fd: Fd, operation: number): void;
  /** Of the whole process. Returns what it was. */
  umask(mask: number): number;
}

/** Attribute names are bytes too: a list gives Buffers, lossless when handed back. */
export interface XattrCalls {
  /** `flags`: 0 or `XATTR.*`. The link itself, not what it points to. */
  lsetxattr(path: Path, name: Path, value: Buffer, flags?: number): void;
  /** Undefined when there is no such attribute. `ENOTSUP` where the file system has none at all. */
  lgetxattr(path: Path, name: Path): Buffer | undefined;
  llistxattr(path: Path): Buffer[];
  /** `ENODATA` when there is no such attribute. */
  lremovexattr(path: Path, name: Path): void;
  fsetxattr(fd: Fd, name: Path, value: Buffer, flags?: number): void;
  fgetxattr(fd: Fd, name: Path): Buffer | undefined;
  flistxattr(fd: Fd): Buffer[];
  fremovexattr(fd: Fd, name: Path): void;
}

/** How a process ended: by its own code or by a signal's number. */
export type ExitStatus =
  | { readonly code: number; readonly signal?: undefined }
  | { readonly code?: undefined; readonly signal: number };

export interface ReapedProcess {
  readonly pid: number;
  readonly status: ExitStatus;
}

export interface PidfdInfo {
  /** 0 when the process has been reaped already. */
  readonly pid: number;
  readonly ppid: number;
  /**
   * Set once the process is reaped (Linux 6.15); the pidfd must have been opened before the exit.
   */
  readonly exit: ExitStatus | undefined;
}

export interface ResourceLimit {
  /** `RLIM_INFINITY` for none. */
  readonly soft: bigint;
  readonly hard: bigint;
}

export interface ProcessCalls {
  /** `ESRCH` when there is no such process. Readable by poll once it has exited. */
  pidfdOpen(pid: number): Fd;
  pidfdSendSignal(pidfd: Fd, signal: number): void;
  /** `ENOTTY` before Linux 6.13; `ESRCH` when reaped and the kernel has kept nothing. */
  pidfdGetInfo(pidfd: Fd): PidfdInfo;
  /** A negative `pid` is a process group. `signal` 0 only asks. */
  kill(pid: number, signal: number): void;
  /**
   * Never blocks. Undefined while there is nothing to collect; `ECHILD` when there is no such
   * child.
   */
  waitpid(pid: number): ReapedProcess | undefined;
  /**
   * `option`: `PR.*`, with up to three arguments, 0 where they are left out. Returns what the kernel
   * does: for getters by pointer use the named functions.
   */
  prctl(option: number, ...args: [number, number?, number?]): number;
  /** Orphans below this process become its children, of every thread. */
  setChildSubreaper(state: "on" | "off"): void;
  isChildSubreaper(): boolean;
  /** `pid` 0 is this process. Returns what the limit was. */
  prlimit(pid: number, resource: number, limit?: ResourceLimit): ResourceLimit;
  /** Of the calling thread only: undo it before anything else can run on it. */
  setns(fd: Fd, type: number): void;
  /**
   * Of the calling thread only. `CLONE.NEWUSER` is `EINVAL` in a process with threads, so in any
   * Node.
   */
  unshare(flags: number): void;
  gettid(): number;
  /**
   * Ends the process now, every thread of it, without the clean-up of Node: also when a thread
   * hangs in the kernel, for which `process.exit` would wait.
   */
  exitGroup(code: number): never;
}

export interface UserNamespaceCalls {
  /**
   * A user namespace that nobody is in, with these mappings: lines as in `/proc/PID/uid_map`, the
   * kernel's maximum being 340. It lasts as long as something refers to it, the descriptor for one.
   *
   * Blocks for a few milliseconds. `EPERM` where user namespaces are not allowed, `ENOSPC` beyond
   * their number, `EINVAL` for mappings that overlap or are empty.
   */
  openUserNamespace(uidMap: string, gidMap: string): Fd;
  /**
   * The user namespace that owns the namespace behind a descriptor. `ENOTTY` for what is none,
   * `EPERM` for one outside of this process's own.
   */
  openOwningUserNamespace(namespace: Fd): Fd;
}

export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
}

export interface DescriptorCalls {
  close(fd: Fd): void;
  /** The lowest free number at or above `minFd`. */
  dup(fd: Fd, minFd?: number): Fd;
  /** Onto the number `target`, whatever was there is closed. */
  dup3(fd: Fd, target: Fd): void;
  pipe2(flags: number): { read: Fd; write: Fd };
  eventfd(initial: number, flags: number): Fd;
  /** `O.*` status flags and access mode. */
  getStatusFlags(fd: Fd): number;
  /** Shared by all duplicates of the open file description, in every process. */
  setStatusFlags(fd: Fd, flags: number): void;
  isCloseOnExec(fd: Fd): boolean;
  setCloseOnExec(fd: Fd, state: "on" | "off"): void;
  getPipeSize(fd: Fd): number;
  /** Rounded up by the kernel; returns what it gave. `EPERM` above the user's limit. */
  setPipeSize(fd: Fd, sizeBytes: number): number;
  getWindowSize(tty: Fd): WindowSize;
  setWindowSize(tty: Fd, size: WindowSize): void;
  /** A new PTY: its master, non-inherited, and the path of the other side. */
  openPty(): { master: Fd; path: string };
  /** Marks all descriptors from `first` to `last` close-on-exec. */
  closeOnExecRange(first: Fd, last: Fd): void;
}

export interface LoopStatus {
  /** What the device shows, as `fstatat` tells of it. */
  readonly file: Pick<FileStat, "dev" | "ino">;
  /** `LO_FLAGS.*` */
  readonly flags: number;
}

/** Block devices that show a file. */
export interface LoopCalls {
  /** The number of a device that shows nothing at this moment. `control`: `/dev/loop-control`. */
  loopGetFree(control: Fd): number;
  /**
   * `EBUSY` when the device shows something already. `fileName` is told to whoever lists devices.
   * Linux 5.8; `EINVAL` before, and for what is neither a file nor a block device.
   */
  loopConfigure(
    device: Fd,
    shown: { readonly fd: Fd; readonly flags: number; readonly fileName: string },
  ): void;
  /** `ENXIO` when it shows nothing. */
  loopStatus(device: Fd): LoopStatus;
  /** Only `LO_FLAGS.AUTOCLEAR` can be changed. `ENXIO` when it shows nothing. */
  loopSetFlags(device: Fd, flags: number): void;
}

export interface ReceivedMessage {
  /** Empty at the end of the stream. */
  readonly data: Buffer;
  /** The receiver owns them now. */
  readonly fds: readonly Fd[];
}

export interface SocketCalls {
  /** `type`: `SOCK.*`. Blocking unless `nonBlocking`. */
  socketpair(type: number, options?: { nonBlocking?: boolean }): [Fd, Fd];
  /**
   * Does not block and raises no SIGPIPE. Returns the bytes taken; the descriptors go with the
   * first byte.
   */
  sendmsg(socket: Fd, data: Buffer, fds: readonly Fd[]): number;
  /**
   * Does not block: `EAGAIN` while nothing is there. More than `fdsMax` descriptors (or more than
   * this process may open) are all closed and reported as `EMSGSIZE`.
   */
  recvmsg(socket: Fd, room: { bytesMax: number; fdsMax: number }): ReceivedMessage;
  /**
   * Sends one datagram to a unix socket, from a socket of its own. A name that starts with `@` is
   * in the abstract namespace.
   *
   * Does not wait: `EAGAIN` when the receiver's queue is full, `ECONNREFUSED` when nobody receives.
   */
  sendDatagram(name: string, data: Buffer): void;
  /** The effective user of the process that connected the other end of a unix socket. */
  getPeerUid(socket: Fd): number;
}
