import { close } from "node:fs";
import { access, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openMapping, withDetachedLowers } from "#core/mount/idmapped.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { planMount } from "#core/mount/options.ts";
import { createOverlay } from "#core/mount/overlay.ts";
import { undoTempMounts } from "#core/mount/temp-mounts.ts";
import type { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Fd, Syscalls } from "#pkg/sys/syscall.ts";

const probePrefix = "overlay-check-";

/** Removes what a process that was killed in `probeOverlay` left. The caller alone uses `root`. */
export async function undoProbes(ctx: Context, sys: Syscalls, root: string): Promise<void> {
  await undoTempMounts(ctx, sys, root);
  for (const name of await readdir(root)) {
    // Overlays were made of the directories in it, none was ever mounted there.
    if (name.startsWith(probePrefix)) await rm(join(root, name), { recursive: true, force: true });
  }
}

/** Throws why an overlay cannot be mounted on directories in `root`. */
export async function probeOverlay(
  ctx: Context,
  sys: Syscalls,
  root: string,
  mountOptions: readonly string[],
): Promise<void> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const dir = await mkdtemp(join(root, probePrefix));
  try {
    for (const name of ["lower1", "lower2", "upper", "work"]) await mkdir(join(dir, name));
    const options = [
      `workdir=${join(dir, "work")}`,
      `upperdir=${join(dir, "upper")}`,
      `lowerdir=${join(dir, "lower2")}:${join(dir, "lower1")}`,
      ...mountOptions,
    ];
    const created = createProbed(sys, options);
    // To let go of it can take the kernel tens of milliseconds, in which the daemon goes on.
    if (created !== undefined) return closeAside(ctx, created);
    const mount = { type: "overlay", source: "overlay", target: "", options };
    const mounter = new Mounter({ sys, tempDir: root });
    await mounter.withTempMount(ctx, [mount], async () => {});
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** An overlay mounted nowhere; undefined where only a mount can tell. */
function createProbed(sys: Syscalls, options: readonly string[]): Fd | undefined {
  const plan = planMount(options);
  const mapping = openMapping(sys, plan);
  if (mapping === undefined) return createOverlay(sys, plan.data);
  try {
    return withDetachedLowers(sys, mapping, plan.data, (data) => createOverlay(sys, data));
  } finally {
    sys.close(mapping);
  }
}

/** On a thread of Node's own pool. */
function closeAside(ctx: Context, fd: Fd): void {
  close(fd, (error) => {
    if (error) ctx.logger.warn("failed to close an overlay that was tried", { error });
  });
}

/** Whether layers in `root` can be mounted with other owners: both the kernel and the disk decide. */
export async function canMapIds(
  ctx: Context,
  sys: Syscalls,
  root: string,
  mountOptions: readonly string[],
): Promise<boolean> {
  const mapping = ["uidmap=0:666:1", "gidmap=0:666:1"];
  try {
    await probeOverlay(ctx, sys, root, [...mountOptions, ...mapping]);
    return true;
  } catch (error) {
    ctx.logger.info("id-mapped mounts cannot be used", { root, error });
    return false;
  }
}

/**
 * The configured options, and those that every overlay mount of a snapshot is to have where the
 * kernel knows them.
 */
export async function completeMountOptions(
  configured: readonly string[],
  inUserNamespace: boolean,
): Promise<readonly string[]> {
  const options = [...configured];
  // Since Linux 5.11, which has both the option and the need for it.
  if (inUserNamespace && !hasOption(options, "userxattr")) options.push("userxattr");
  // An index would bind the upper directory to one set of lower ones. A configured value stays: the
  // last would win.
  if (!hasOption(options, "index") && (await knowsIndex())) options.push("index=off");
  return options;
}

function hasOption(options: readonly string[], key: string): boolean {
  return options.some((option) => option === key || option.startsWith(`${key}=`));
}

async function knowsIndex(): Promise<boolean> {
  try {
    await access("/sys/module/overlay/parameters/index");
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}
