import { FsContext } from "#core/mount/fs-context.ts";
import { overlayLowers } from "#core/mount/options.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Beyond this, mount(2) is not used: its data is cut off at a page, and some room is left for the
 * kernel's own.
 */
export const overlayDataMax = 3584;

/**
 * Mounts an overlay whose options do not fit into a page: one layer at a time (`lowerdir+`, Linux
 * 6.5), or, on older kernels, with names short enough for some 150 layers.
 */
export function mountOverlay(
  sys: Syscalls,
  target: Path,
  data: readonly string[],
  flags: number,
): void {
  const lowers = overlayLowers(data);
  const others = data.filter((option) => !option.startsWith("lowerdir="));
  using fs = new FsContext(sys, "overlay");
  fs.setString("source", "overlay");
  if (!setLowers(fs, lowers)) {
    const short = lowers.map((lower) => fs.descriptorPath(lower));
    const all = [...others, `lowerdir=${short.join(":")}`].join(",");
    sys.mount(target, { source: "overlay", fstype: "overlay", flags, data: all });
    return;
  }
  fs.setFlags(flags);
  for (const option of others) fs.setOption(option, ["upperdir", "workdir"]);
  fs.mount(target, flags);
}

/**
 * Makes an overlay that is mounted nowhere, to see whether the kernel can. The caller closes it,
 * which takes as long as to unmount it would.
 *
 * Undefined where only a mount can tell (before Linux 6.5).
 */
export function createOverlay(sys: Syscalls, data: readonly string[]): Fd | undefined {
  using fs = openContext(sys);
  if (!fs) return undefined;
  fs.setString("source", "overlay");
  if (!setLowers(fs, overlayLowers(data))) return undefined;
  for (const option of data) {
    if (!option.startsWith("lowerdir=")) fs.setOption(option, ["upperdir", "workdir"]);
  }
  return fs.create();
}

function openContext(sys: Syscalls): FsContext | undefined {
  try {
    return new FsContext(sys, "overlay");
  } catch (error) {
    if (isErrno(error, "ENOSYS")) return undefined;
    throw error;
  }
}

/** False where the kernel does not know the option. */
function setLowers(fs: FsContext, lowers: readonly string[]): boolean {
  for (const [count, lower] of lowers.entries()) {
    try {
      fs.setPath("lowerdir+", lower);
    } catch (error) {
      if (count === 0 && isErrno(error, "EINVAL")) return false;
      throw error;
    }
  }
  return true;
}
