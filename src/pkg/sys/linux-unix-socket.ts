import { O, SOCK } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { check, native } from "#pkg/sys/libc.ts";
import { descriptorCalls } from "#pkg/sys/linux-descriptor.ts";
import type { Fd } from "#pkg/sys/syscall.ts";

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
const MSG_NOSIGNAL = 0x4000;
const addressBytesMax = 107;

/**
 * Sends one datagram to a unix socket, which Node cannot. A name that starts with `@` is in the
 * abstract namespace.
 *
 * Does not wait: `EAGAIN` when the receiver's queue is full, `ECONNREFUSED` when nobody receives.
 */
export function sendDatagram(name: string, data: Buffer): void {
  const path = Buffer.from(name);
  if (name.startsWith("@")) path[0] = 0;
  if (path.length > addressBytesMax) throw new SyscallError("ENAMETOOLONG", "sendto", name);
  const to = Buffer.alloc(2 + path.length + 1);
  to.writeUInt16LE(AF_UNIX, 0);
  path.copy(to, 2);
  // The abstract name is every byte of the address; that of a file ends with its zero.
  const toLength = name.startsWith("@") ? 2 + path.length : to.length;
  const fd = check(socket(AF_UNIX, SOCK.DGRAM | O.CLOEXEC | O.NONBLOCK, 0), "socket");
  try {
    check(sendto(fd, data, data.length, MSG_NOSIGNAL, to, toLength), "sendto", name);
  } finally {
    descriptorCalls.close(fd);
  }
}

/** The effective user of the process that connected the other end of a unix socket. */
export function peerUid(fd: Fd): number {
  const credentials = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(credentials.length, 0);
  check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length), "getsockopt");
  return credentials.readUInt32LE(4);
}
