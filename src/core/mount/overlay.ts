import { FsContext } from "#core/mount/fs-context.ts";
import { overlayLowers } from "#core/mount/options.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Path, Syscalls } from "#pkg/sys/syscall.ts";

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
