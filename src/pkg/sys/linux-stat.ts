import type { FileStat, FileSystemStat } from "#pkg/sys/syscall.ts";

/** statx is laid out alike everywhere, which struct stat is not. */
export const STATX_SIZE = 256;
const STATX_BASIC_STATS = 0x7ff;
const STATX_MNT_ID = 0x1000;
export const STATX_WANTED: number = STATX_BASIC_STATS | STATX_MNT_ID;
const STATX_ATTR_MOUNT_ROOT = 0x2000n;

function timeAt(buffer: Buffer, offset: number): bigint {
  return buffer.readBigInt64LE(offset) * 1_000_000_000n + BigInt(buffer.readUInt32LE(offset + 8));
}

export function readStatx(b: Buffer): FileStat {
  const knowsMountRoot = (b.readBigUInt64LE(56) & STATX_ATTR_MOUNT_ROOT) !== 0n;
  return {
    mode: b.readUInt16LE(28),
    uid: b.readUInt32LE(20),
    gid: b.readUInt32LE(24),
    nlink: b.readUInt32LE(16),
    ino: b.readBigUInt64LE(32),
    sizeBytes: Number(b.readBigUInt64LE(40)),
    blocks: Number(b.readBigUInt64LE(48)),
    rdev: { major: b.readUInt32LE(128), minor: b.readUInt32LE(132) },
    dev: { major: b.readUInt32LE(136), minor: b.readUInt32LE(140) },
    atimeNs: timeAt(b, 64),
    ctimeNs: timeAt(b, 96),
    mtimeNs: timeAt(b, 112),
    mountId: (b.readUInt32LE(0) & STATX_MNT_ID) === 0 ? 0n : b.readBigUInt64LE(144),
    isMountRoot: knowsMountRoot ? (b.readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n : undefined,
  };
}

/** struct statfs of 64-bit Linux. */
export function readStatfs(b: Buffer): FileSystemStat {
  return {
    type: Number(b.readBigUInt64LE(0) & 0xffff_ffffn),
    blockSizeBytes: Number(b.readBigInt64LE(8)),
    blocks: b.readBigUInt64LE(16),
    freeBlocks: b.readBigUInt64LE(24),
    availableBlocks: b.readBigUInt64LE(32),
    files: b.readBigUInt64LE(40),
    freeFiles: b.readBigUInt64LE(48),
    flags: Number(b.readBigInt64LE(80)),
  };
}
