import { O, SOCK } from "#pkg/sys/constants.ts";
import { descriptorCalls } from "#pkg/sys/linux-descriptor.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { address, check, holding, native } from "#pkg/sys/libc.ts";
import type { Fd, SocketCalls } from "#pkg/sys/syscall.ts";

type MessageCall = (fd: number, message: Buffer, flags: number) => number;

const socketpair = native<(domain: number, type: number, protocol: number, fds: Buffer) => number>(
  "socketpair",
  "int",
  ["int", "int", "int", "out"],
);
const sendmsg = native<MessageCall>("sendmsg", "long", ["int", "in", "int"]);
const recvmsg = native<MessageCall>("recvmsg", "long", ["int", "out", "int"]);
const socket = native<(domain: number, type: number, protocol: number) => number>("socket", "int", [
  "int",
  "int",
  "int",
]);
const sendto = native<
  (fd: Fd, data: Buffer, length: number, flags: number, to: Buffer, toLength: number) => number
>("sendto", "long", ["int", "in", "size", "int", "in", "uint"]);
const getsockopt = native<
  (fd: Fd, level: number, option: number, value: Buffer, length: Buffer) => number
>("getsockopt", "int", ["int", "int", "int", "out", "out"]);

const AF_UNIX = 1;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** The kernel's own limit for one message. */
const SCM_MAX_FD = 253;
const cmsgHeaderBytes = 16;
/** What sockaddr_un has room for, with the zero at its end. */
const pathBytesMax = 107;

/** A struct msghdr over one data and one control buffer. All three must outlive the call. */
function messageHeader(data: Buffer, control: Buffer): { header: Buffer; keep: Buffer[] } {
  const iov = Buffer.alloc(16);
  iov.writeBigUInt64LE(address(data), 0);
  iov.writeBigUInt64LE(BigInt(data.length), 8);
  const header = Buffer.alloc(56);
  header.writeBigUInt64LE(address(iov), 16);
  header.writeBigUInt64LE(1n, 24);
  if (control.length > 0) header.writeBigUInt64LE(address(control), 32);
  header.writeBigUInt64LE(BigInt(control.length), 40);
  return { header, keep: [data, control, iov] };
}

function align8(size: number): number {
  return (size + 7) & ~7;
}

function rightsOf(control: Buffer): number[] {
  const fds: number[] = [];
  for (let at = 0; at + cmsgHeaderBytes <= control.length; ) {
    const length = Number(control.readBigUInt64LE(at));
    if (length < cmsgHeaderBytes || at + length > control.length) break;
    const isRights =
      control.readInt32LE(at + 8) === SOL_SOCKET && control.readInt32LE(at + 12) === SCM_RIGHTS;
    for (let fd = at + cmsgHeaderBytes; isRights && fd + 4 <= at + length; fd += 4) {
      fds.push(control.readInt32LE(fd));
    }
    at += align8(length);
  }
  return fds;
}

export const socketCalls: SocketCalls = {
  socketpair(type, options = {}) {
    const fds = Buffer.alloc(8);
    const flags = O.CLOEXEC | (options.nonBlocking === true ? O.NONBLOCK : 0);
    check(socketpair(AF_UNIX, type | flags, 0, fds), "socketpair");
    return [fds.readInt32LE(0), fds.readInt32LE(4)];
  },
  sendmsg(socket, data, fds) {
    // Descriptors only travel with data, and a message beyond the kernel's limit is EINVAL there.
    if (data.length === 0 || fds.length > SCM_MAX_FD) throw new SyscallError("EINVAL", "sendmsg");
    const length = cmsgHeaderBytes + 4 * fds.length;
    const control = Buffer.alloc(fds.length === 0 ? 0 : align8(length));
    if (fds.length > 0) {
      control.writeBigUInt64LE(BigInt(length), 0);
      control.writeInt32LE(SOL_SOCKET, 8);
      control.writeInt32LE(SCM_RIGHTS, 12);
      for (const [i, fd] of fds.entries()) control.writeInt32LE(fd, cmsgHeaderBytes + 4 * i);
    }
    const { header, keep } = messageHeader(data, control);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return check(
      holding(keep, () => sendmsg(socket, header, flags)),
      "sendmsg",
    );
  },
  recvmsg(socket, { bytesMax, fdsMax }) {
    const data = Buffer.alloc(bytesMax);
    const control = Buffer.alloc(
      fdsMax === 0 ? 0 : align8(cmsgHeaderBytes + 4 * Math.min(fdsMax, SCM_MAX_FD)),
    );
    const { header, keep } = messageHeader(data, control);
    const flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    const received = check(
      holding(keep, () => recvmsg(socket, header, flags)),
      "recvmsg",
    );
    const fds = rightsOf(control.subarray(0, Number(header.readBigUInt64LE(40))));
    if ((header.readInt32LE(48) & MSG_CTRUNC) !== 0 || fds.length > fdsMax) {
      for (const fd of fds) descriptorCalls.close(fd);
      throw new SyscallError("EMSGSIZE", "recvmsg");
    }
    return { data: data.subarray(0, received), fds };
  },
  sendDatagram(name, data) {
    const path = Buffer.from(name);
    if (path.length > pathBytesMax) throw new SyscallError("ENAMETOOLONG", "sendto", name);
    const to = Buffer.alloc(2 + path.length + 1);
    to.writeUInt16LE(AF_UNIX, 0);
    path.copy(to, 2);
    const isAbstract = name.startsWith("@");
    if (isAbstract) to[2] = 0;
    // The abstract name is every byte of the address; that of a file ends with its zero.
    const toLength = isAbstract ? 2 + path.length : to.length;
    const fd = check(socket(AF_UNIX, SOCK.DGRAM | O.CLOEXEC | O.NONBLOCK, 0), "socket");
    try {
      check(sendto(fd, data, data.length, MSG_NOSIGNAL, to, toLength), "sendto", name);
    } finally {
      descriptorCalls.close(fd);
    }
  },
  getPeerUid(fd) {
    const credentials = Buffer.alloc(12);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(credentials.length, 0);
    check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length), "getsockopt");
    return credentials.readUInt32LE(4);
  },
};
