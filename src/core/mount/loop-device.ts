import { readdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Context } from "#pkg/context.ts";
import { isErrno, unavailable, wrap } from "#pkg/errors.ts";
import { AT, LO_FLAGS, LOCK, O } from "#pkg/sys/constants.ts";
import type { Fd, FileStat, Syscalls } from "#pkg/sys/syscall.ts";

type LoopSyscalls = Pick<
  Syscalls,
  | "openat"
  | "close"
  | "fstatat"
  | "flock"
  | "loopGetFree"
  | "loopConfigure"
  | "loopStatus"
  | "loopSetFlags"
>;

export interface LoopOptions {
  readonly readOnly: boolean;
  /** Past the page cache, which else holds everything twice. */
  readonly directIo?: boolean;
}

/**
 * A block device that shows a file. It ends when nobody has it open or mounted any more: hold it
 * until it is mounted.
 */
export interface LoopDevice extends Disposable {
  readonly path: string;
  readonly fd: Fd;
}

const control = "/dev/loop-control";
const triesMax = 100;
const waitMsMax = 10;
/** Whoever locks a file for longer is none of those that are about to mount it. */
const lockMsMax = 2_000;

/** Shows `file`. Throws `unavailable` when others take every device that is found free. */
export async function attachLoop(
  ctx: Context,
  sys: LoopSyscalls,
  file: string,
  options: LoopOptions,
): Promise<LoopDevice> {
  using opened = openFile(sys, file, options);
  return attachFile(ctx, sys, { file, fd: opened.fd }, options);
}

/**
 * The device that shows `file` for writing already, else a new one.
 *
 * A file system that is mounted by two devices at once, both of which write, ends up broken. Mounted
 * twice by one device, it is one file system.
 */
export async function shareLoop(
  ctx: Context,
  sys: LoopSyscalls,
  file: string,
  options: LoopOptions,
): Promise<LoopDevice> {
  using opened = openFile(sys, file, options);
  const { fd } = opened;
  if (options.readOnly) return attachFile(ctx, sys, { file, fd }, options);
  // Of two that come at once, in whatever process, the second has to find the device of the first.
  await lock(ctx, sys, fd);
  try {
    const shared = await findWritable(sys, sys.fstatat(fd, "", AT.EMPTY_PATH));
    return shared ?? (await attachFile(ctx, sys, { file, fd }, options));
  } finally {
    // The device keeps the file open, and the lock with it.
    sys.flock(fd, LOCK.UN);
  }
}

async function lock(ctx: Context, sys: LoopSyscalls, fd: Fd): Promise<void> {
  for (const endMs = performance.now() + lockMsMax; performance.now() < endMs; ) {
    try {
      sys.flock(fd, LOCK.EX | LOCK.NB);
      return;
    } catch (error) {
      if (!isErrno(error, "EAGAIN")) throw error;
    }
    await delay(Math.random() * waitMsMax, undefined, { signal: ctx.signal });
  }
}

/** A device that others have for writing the same file; held while the caller looks at it. */
export async function findWritable(
  sys: LoopSyscalls,
  { dev, ino }: Pick<FileStat, "dev" | "ino">,
): Promise<LoopDevice | undefined> {
  for (const name of await loopNames()) {
    using stack = new DisposableStack();
    const device = tryOpen(sys, `/dev/${name}`);
    if (!device) continue;
    stack.use(device);
    const status = tryStatus(sys, device.fd);
    if (!status || (status.flags & LO_FLAGS.READ_ONLY) !== 0) continue;
    const shown = status.file;
    if (shown.ino !== ino || shown.dev.major !== dev.major || shown.dev.minor !== dev.minor) {
      continue;
    }
    stack.move();
    return device;
  }
  return undefined;
}

/** Whether it stays when nobody has it open. False where it shows nothing any more. */
export function keepLoop(sys: LoopSyscalls, device: Fd, keep: "kept" | "cleared"): boolean {
  const status = tryStatus(sys, device);
  if (!status) return false;
  const flags =
    keep === "kept" ? status.flags & ~LO_FLAGS.AUTOCLEAR : status.flags | LO_FLAGS.AUTOCLEAR;
  if (flags !== status.flags) sys.loopSetFlags(device, flags);
  return true;
}

export function openDevice(sys: LoopSyscalls, path: string, flags: number): LoopDevice {
  const fd = sys.openat(AT.FDCWD, path, flags | O.NONBLOCK);
  return { path, fd, [Symbol.dispose]: () => sys.close(fd) };
}

async function attachFile(
  ctx: Context,
  sys: LoopSyscalls,
  { file, fd }: { readonly file: string; readonly fd: Fd },
  { readOnly, directIo = false }: LoopOptions,
): Promise<LoopDevice> {
  const flags =
    LO_FLAGS.AUTOCLEAR | (readOnly ? LO_FLAGS.READ_ONLY : 0) | (directIo ? LO_FLAGS.DIRECT_IO : 0);
  for (let tries = 0; tries < triesMax; tries++) {
    ctx.throwIfEnded();
    using stack = new DisposableStack();
    const device = stack.use(openFree(sys, readOnly ? O.RDONLY : O.RDWR));
    try {
      sys.loopConfigure(device.fd, { fd, flags, fileName: file });
      stack.move();
      return device;
    } catch (error) {
      // Somebody else has found the same one free.
      if (!isErrno(error, "EBUSY")) throw wrap(`loop device ${device.path} of ${file}`, error);
    }
    await delay(Math.random() * waitMsMax, undefined, { signal: ctx.signal });
  }
  throw unavailable(`loop device of ${file}: ${triesMax} that were free were taken by others`);
}

function openFree(sys: LoopSyscalls, flags: number): LoopDevice {
  let number: number;
  const opened = openDevice(sys, control, O.RDWR);
  try {
    number = sys.loopGetFree(opened.fd);
  } finally {
    opened[Symbol.dispose]();
  }
  return openDevice(sys, `/dev/loop${number}`, flags);
}

function openFile(sys: LoopSyscalls, file: string, { readOnly }: LoopOptions): LoopDevice {
  try {
    return openDevice(sys, file, readOnly ? O.RDONLY : O.RDWR);
  } catch (error) {
    throw wrap("could not open backing file", error);
  }
}

async function loopNames(): Promise<readonly string[]> {
  try {
    return (await readdir("/sys/block")).filter((name) => /^loop\d+$/.test(name));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

function tryOpen(sys: LoopSyscalls, path: string): LoopDevice | undefined {
  try {
    return openDevice(sys, path, O.RDONLY);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENXIO", "EBUSY", "EACCES", "EPERM")) return undefined;
    throw error;
  }
}

function tryStatus(sys: LoopSyscalls, device: Fd): ReturnType<Syscalls["loopStatus"]> | undefined {
  try {
    return sys.loopStatus(device);
  } catch (error) {
    if (isErrno(error, "ENXIO")) return undefined;
    throw error;
  }
}
