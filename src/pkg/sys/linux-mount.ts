import { AT, FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, MOVE_MOUNT, OPEN_TREE } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { check, type CPath, cPath, native, nativeOnThread, SYS } from "#pkg/sys/libc.ts";
import type { MountCalls } from "#pkg/sys/syscall.ts";

const mount = native<
  (
    source: CPath | null,
    target: CPath,
    type: CPath | null,
    flags: number,
    data: CPath | null,
  ) => number
>("mount", "int", ["in", "in", "in", "ulong", "in"]);
const umount2 = native<(target: CPath, flags: number) => number>("umount2", "int", ["in", "int"]);
const unmount = nativeOnThread<[flags: number]>("umount2", ["int"]);
const fsopen = native<(nr: number, type: CPath, flags: number) => number>("syscall", "long", [
  "long",
  "in",
  "uint",
]);
const fsconfig = native<
  (
    nr: number,
    fd: number,
    cmd: number,
    key: CPath | null,
    value: CPath | null,
    aux: number,
  ) => number
>("syscall", "long", ["long", "int", "uint", "in", "in", "int"]);
const fsmount = native<(nr: number, fd: number, flags: number, attributes: number) => number>(
  "syscall",
  "long",
  ["long", "int", "uint", "uint"],
);
const moveMount = native<
  (nr: number, fromFd: number, from: CPath, toFd: number, to: CPath, flags: number) => number
>("syscall", "long", ["long", "int", "in", "int", "in", "uint"]);
const openTree = native<(nr: number, fd: number, path: CPath, flags: number) => number>(
  "syscall",
  "long",
  ["long", "int", "in", "uint"],
);
const mountSetattr = native<
  (nr: number, fd: number, path: CPath, flags: number, attr: Buffer, size: number) => number
>("syscall", "long", ["long", "int", "in", "uint", "in", "size"]);
const sysconf = native<(name: number) => number>("sysconf", "long", ["int"]);

const pageSizeBytes = sysconf(30);

const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, SET_FD: 5, CREATE: 6, RECONFIGURE: 7 } as const;

function configure(
  fd: number,
  command: number,
  key: CPath | null = null,
  value: CPath | null = null,
  aux = 0,
): void {
  check(fsconfig(SYS.fsconfig, fd, command, key, value, aux), "fsconfig", key ?? undefined);
}

export const mountCalls: MountCalls = {
  mount(target, { source, fstype, flags = 0, data }) {
    if (data !== undefined && Buffer.byteLength(data) >= pageSizeBytes) {
      throw new SyscallError("E2BIG", "mount", target);
    }
    const result = mount(
      source === undefined ? null : cPath(source, "mount"),
      cPath(target, "mount"),
      fstype === undefined ? null : cPath(fstype, "mount"),
      flags,
      data === undefined ? null : cPath(data, "mount"),
    );
    check(result, "mount", target);
  },
  umount2(target, flags) {
    check(umount2(cPath(target, "umount2"), flags), "umount2", target);
  },
  unmount(target, flags) {
    return unmount(target, flags);
  },
  fsopen(fstype) {
    return check(fsopen(SYS.fsopen, cPath(fstype, "fsopen"), FSOPEN_CLOEXEC), "fsopen", fstype);
  },
  fsconfigSetString(fs, key, value) {
    const name = cPath(key, "fsconfig");
    configure(fs, FSCONFIG.SET_STRING, name, cPath(value, "fsconfig"));
  },
  fsconfigSetFlag(fs, key) {
    configure(fs, FSCONFIG.SET_FLAG, cPath(key, "fsconfig"));
  },
  fsconfigSetFd(fs, key, value) {
    configure(fs, FSCONFIG.SET_FD, cPath(key, "fsconfig"), null, value);
  },
  fsconfigCreate(fs) {
    configure(fs, FSCONFIG.CREATE);
  },
  fsconfigReconfigure(fs) {
    configure(fs, FSCONFIG.RECONFIGURE);
  },
  fsmount(fs, attributes) {
    return check(fsmount(SYS.fsmount, fs, FSMOUNT_CLOEXEC, attributes), "fsmount");
  },
  moveMount(from, to) {
    const flags =
      MOVE_MOUNT.T_SYMLINKS |
      (from.path.length === 0 ? MOVE_MOUNT.F_EMPTY_PATH : 0) |
      (to.path.length === 0 ? MOVE_MOUNT.T_EMPTY_PATH : 0);
    const [source, target] = [cPath(from.path, "move_mount"), cPath(to.path, "move_mount")];
    const result = moveMount(SYS.moveMount, from.dirFd, source, to.dirFd, target, flags);
    check(result, "move_mount", to.path);
  },
  openTree(dirFd, path, flags) {
    const name = cPath(path, "open_tree");
    const result = openTree(SYS.openTree, dirFd, name, flags | OPEN_TREE.CLOEXEC);
    return check(result, "open_tree", path);
  },
  mountSetattr(dirFd, path, attributes) {
    const name = cPath(path, "mount_setattr");
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd, 64 bits each.
    const attr = Buffer.alloc(32);
    attr.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0);
    attr.writeBigUInt64LE(BigInt(attributes.clear ?? 0), 8);
    attr.writeBigUInt64LE(BigInt(attributes.propagation ?? 0), 16);
    attr.writeBigUInt64LE(BigInt(attributes.usernsFd ?? 0), 24);
    const flags = attributes.flags ?? (path.length === 0 ? AT.EMPTY_PATH : 0);
    const result = mountSetattr(SYS.mountSetattr, dirFd, name, flags, attr, attr.length);
    check(result, "mount_setattr", path);
  },
};
