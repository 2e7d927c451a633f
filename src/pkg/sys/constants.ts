import { constants } from "node:fs";

/** mount(2) flags. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  MANDLOCK: 64,
  DIRSYNC: 128,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  MOVE: 8192,
  REC: 16384,
  SILENT: 32768,
  POSIXACL: 1 << 16,
  UNBINDABLE: 1 << 17,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
  RELATIME: 1 << 21,
  I_VERSION: 1 << 23,
  STRICTATIME: 1 << 24,
  LAZYTIME: 1 << 25,
} as const;

/** umount2(2) flags. */
export const MNT = { FORCE: 1, DETACH: 2, EXPIRE: 4, NOFOLLOW: 8 } as const;

/** Flags of the *at family. */
export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  NO_AUTOMOUNT: 0x800,
  EMPTY_PATH: 0x1000,
  RECURSIVE: 0x8000,
} as const;

/**
 * open(2) flags. DIRECTORY, NOFOLLOW and DIRECT differ between x86-64 and arm64, so Node's own
 * values are taken.
 */
export const O = {
  RDONLY: constants.O_RDONLY,
  WRONLY: constants.O_WRONLY,
  RDWR: constants.O_RDWR,
  CREAT: constants.O_CREAT,
  EXCL: constants.O_EXCL,
  NOCTTY: constants.O_NOCTTY,
  TRUNC: constants.O_TRUNC,
  APPEND: constants.O_APPEND,
  NONBLOCK: constants.O_NONBLOCK,
  DIRECTORY: constants.O_DIRECTORY,
  NOFOLLOW: constants.O_NOFOLLOW,
  DIRECT: constants.O_DIRECT,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  TMPFILE: 0o20000000 | constants.O_DIRECTORY,
} as const;

/** openat2(2) resolve flags. */
export const RESOLVE = {
  NO_XDEV: 0x01,
  NO_MAGICLINKS: 0x02,
  NO_SYMLINKS: 0x04,
  BENEATH: 0x08,
  IN_ROOT: 0x10,
  CACHED: 0x20,
} as const;

/** File types in a mode. */
export const S_IF = {
  MT: 0o170000,
  SOCK: 0o140000,
  LNK: 0o120000,
  REG: 0o100000,
  BLK: 0o060000,
  DIR: 0o040000,
  CHR: 0o020000,
  IFO: 0o010000,
} as const;

/** fsopen, fsmount, move_mount, open_tree and mount_setattr. */
export const FSOPEN_CLOEXEC = 1;
export const FSMOUNT_CLOEXEC = 1;
export const MOVE_MOUNT = {
  F_SYMLINKS: 0x01,
  F_EMPTY_PATH: 0x04,
  T_SYMLINKS: 0x10,
  T_EMPTY_PATH: 0x40,
  SET_GROUP: 0x100,
  BENEATH: 0x200,
} as const;
export const OPEN_TREE = { CLONE: 1, CLOEXEC: 0o2000000 } as const;
export const MOUNT_ATTR = {
  RDONLY: 0x01,
  NOSUID: 0x02,
  NODEV: 0x04,
  NOEXEC: 0x08,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  NODIRATIME: 0x80,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const;

/** renameat2(2) flags. */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

/** setxattr(2) flags. */
export const XATTR = { CREATE: 1, REPLACE: 2 } as const;

/** lseek(2): from the start, or on to where data or a hole begins. */
export const SEEK = { SET: 0, DATA: 3, HOLE: 4 } as const;

/** flock(2) operations. */
export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;

/** setns(2) and unshare(2). */
export const CLONE = {
  NEWTIME: 0x80,
  FS: 0x200,
  FILES: 0x400,
  NEWNS: 0x20000,
  NEWCGROUP: 0x2000000,
  NEWUTS: 0x4000000,
  NEWIPC: 0x8000000,
  NEWUSER: 0x10000000,
  NEWPID: 0x20000000,
  NEWNET: 0x40000000,
} as const;

export const PR = {
  SET_PDEATHSIG: 1,
  GET_PDEATHSIG: 2,
  SET_DUMPABLE: 4,
  SET_NAME: 15,
  SET_CHILD_SUBREAPER: 36,
  GET_CHILD_SUBREAPER: 37,
  SET_NO_NEW_PRIVS: 38,
  SCHED_CORE: 62,
} as const;

/** Of `PR.SCHED_CORE`: what it does, and to whom. */
export const PR_SCHED_CORE_CREATE = 1;
export const PR_SCHED_CORE_SCOPE = { THREAD: 0, THREAD_GROUP: 1, PROCESS_GROUP: 2 } as const;

export const RLIMIT = { CORE: 4, NPROC: 6, NOFILE: 7, MEMLOCK: 8 } as const;
export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** Of loop devices. With AUTOCLEAR the last to close it ends it. */
export const LO_FLAGS = { READ_ONLY: 1, AUTOCLEAR: 4, PARTSCAN: 8, DIRECT_IO: 16 } as const;

export const SOCK = { STREAM: 1, DGRAM: 2, SEQPACKET: 5 } as const;

export const EFD = { SEMAPHORE: 1, NONBLOCK: constants.O_NONBLOCK } as const;

/** statfs(2) `type` of file systems that the daemon tells apart. */
export const FS_MAGIC = {
  OVERLAYFS: 0x794c7630,
  EXT4: 0xef53,
  XFS: 0x58465342,
  BTRFS: 0x9123683e,
  TMPFS: 0x01021994,
  CGROUP2: 0x63677270,
  CGROUP: 0x27e0eb,
  PROC: 0x9fa0,
  NFS: 0x6969,
  ZFS: 0x2fc12fc1,
  ECRYPTFS: 0xf15f,
  FUSE: 0x65735546,
  SQUASHFS: 0x73717368,
  EROFS: 0xe0f5e1e2,
  NSFS: 0x6e736673,
} as const;
