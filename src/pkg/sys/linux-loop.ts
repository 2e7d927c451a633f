import { check, native } from "#pkg/sys/libc.ts";
import type { LoopCalls } from "#pkg/sys/syscall.ts";

const ioctl = native<(fd: number, request: number, argument: Buffer) => number>("ioctl", "int", [
  "int",
  "ulong",
  "out",
]);

const LOOP_SET_STATUS64 = 0x4c04;
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;

/** struct loop_info64, and where its fields are. */
const info = { sizeBytes: 232, device: 0, inode: 8, flags: 52, fileName: 56 } as const;
const fileNameBytes = 64;
/** struct loop_config: two numbers, a struct loop_info64, 64 bytes of nothing. */
const config = { sizeBytes: 304, fd: 0, info: 8 } as const;

function getInfo(device: number): Buffer {
  const buffer = Buffer.alloc(info.sizeBytes);
  check(ioctl(device, LOOP_GET_STATUS64, buffer), "loop_get_status");
  return buffer;
}

export const loopCalls: LoopCalls = {
  loopGetFree(control) {
    return check(ioctl(control, LOOP_CTL_GET_FREE, Buffer.alloc(8)), "loop_ctl_get_free");
  },
  loopConfigure(device, { fd, flags, fileName }) {
    const buffer = Buffer.alloc(config.sizeBytes);
    buffer.writeUInt32LE(fd, config.fd);
    buffer.writeUInt32LE(flags, config.info + info.flags);
    // For whoever lists devices; the last byte stays NUL.
    buffer.write(fileName, config.info + info.fileName, fileNameBytes - 1);
    check(ioctl(device, LOOP_CONFIGURE, buffer), "loop_configure");
  },
  loopStatus(device) {
    const buffer = getInfo(device);
    const number = buffer.readBigUInt64LE(info.device);
    return {
      file: {
        dev: {
          major: Number((number >> 8n) & 0xfffn),
          minor: Number((number & 0xffn) | ((number >> 12n) & 0xfff00n)),
        },
        ino: buffer.readBigUInt64LE(info.inode),
      },
      flags: buffer.readUInt32LE(info.flags),
    };
  },
  loopSetFlags(device, flags) {
    const buffer = getInfo(device);
    buffer.writeUInt32LE(flags, info.flags);
    check(ioctl(device, LOOP_SET_STATUS64, buffer), "loop_set_status");
  },
};
