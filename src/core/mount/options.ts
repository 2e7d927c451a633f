import type { Mount } from "#core/mount/mount.ts";
import { failedPrecondition } from "#pkg/errors.ts";
import { MS } from "#pkg/sys/constants.ts";

/** A mount's options, told apart as mount(2) wants them. */
export interface MountPlan {
  /** `MS.*`, propagation among them. */
  readonly flags: number;
  /** The file system's own, in order. */
  readonly data: readonly string[];
  /** The source is a file, to be shown by a block device. */
  readonly loop: { readonly directIo: boolean } | undefined;
  readonly uidMap: string | undefined;
  readonly gidMap: string | undefined;
}

const setFlags: Readonly<Record<string, number>> = {
  bind: MS.BIND,
  dirsync: MS.DIRSYNC,
  mand: MS.MANDLOCK,
  noatime: MS.NOATIME,
  nodev: MS.NODEV,
  nodiratime: MS.NODIRATIME,
  noexec: MS.NOEXEC,
  nosuid: MS.NOSUID,
  rbind: MS.BIND | MS.REC,
  relatime: MS.RELATIME,
  remount: MS.REMOUNT,
  ro: MS.RDONLY,
  strictatime: MS.STRICTATIME,
  sync: MS.SYNCHRONOUS,
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  rshared: MS.SHARED | MS.REC,
  rslave: MS.SLAVE | MS.REC,
  runbindable: MS.UNBINDABLE | MS.REC,
  shared: MS.SHARED,
  slave: MS.SLAVE,
  unbindable: MS.UNBINDABLE,
};

const clearFlags: Readonly<Record<string, number>> = {
  async: MS.SYNCHRONOUS,
  atime: MS.NOATIME,
  dev: MS.NODEV,
  diratime: MS.NODIRATIME,
  exec: MS.NOEXEC,
  nomand: MS.MANDLOCK,
  norelatime: MS.RELATIME,
  nostrictatime: MS.STRICTATIME,
  rw: MS.RDONLY,
  suid: MS.NOSUID,
};

export const propagationFlags: number = MS.SHARED | MS.PRIVATE | MS.SLAVE | MS.UNBINDABLE;

/** Throws `failed-precondition` for an option that the mount manager should have taken. */
export function planMount(options: readonly string[]): MountPlan {
  let flags = 0;
  const data: string[] = [];
  let loop = false;
  const maps: { uidMap?: string; gidMap?: string } = {};
  for (const option of options) {
    if (option.startsWith("X-containerd.")) {
      throw failedPrecondition(
        `internal mount option "${option}" was not consumed by the mount manager`,
      );
    }
    if (Object.hasOwn(setFlags, option)) flags |= setFlags[option] ?? 0;
    else if (Object.hasOwn(clearFlags, option)) flags &= ~(clearFlags[option] ?? 0);
    else if (option === "loop") loop = true;
    else if (option.startsWith("uidmap=")) maps.uidMap = option.slice("uidmap=".length);
    else if (option.startsWith("gidmap=")) maps.gidMap = option.slice("gidmap=".length);
    // "defaults" means nothing; mount(2) would hand it to the file system.
    else if (option !== "" && option !== "defaults") data.push(option);
  }
  const { uidMap, gidMap } = maps;
  if (!loop) return { flags, data, loop: undefined, uidMap, gidMap };
  const fileSystems = data.filter((option) => option !== "direct-io");
  const directIo = fileSystems.length < data.length;
  return { flags, data: fileSystems, loop: { directIo }, uidMap, gidMap };
}

/**
 * Whether what is mounted can be written, by its type where the options do not say (features M25).
 */
export function isReadOnly(mount: Mount): boolean {
  const type = mount.type.slice(mount.type.lastIndexOf("/") + 1);
  if (type === "erofs") return true;
  if (type !== "overlay") return mount.options.includes("ro");
  // An element may hold several options joined by commas.
  const options = mount.options.join(",").split(",");
  return options.includes("ro") || !options.some((option) => option.startsWith("upperdir="));
}

/** The same mounts, read-only: an overlay's upper directory becomes its topmost lower one. */
export function readOnlyMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    if (mount.type === "overlay") return { ...mount, options: readOnlyOverlay(mount.options) };
    const options = withoutMappings(mount.options).filter((o) => o !== "rw" && o !== "ro");
    return { ...mount, options: [...options, "ro"] };
  });
}

function readOnlyOverlay(options: readonly string[]): string[] {
  const upper = overlayUpper(options);
  const kept = withoutMappings(options).filter((option) => !/^(?:upper|work)dir=/.test(option));
  if (upper === undefined) return kept;
  return kept.map((option) => {
    if (!option.startsWith("lowerdir=")) return option;
    return `lowerdir=${upper}:${option.slice("lowerdir=".length)}`;
  });
}

/** Without what shows files as belonging to others than they do on the disk. */
export function withoutMappings(options: readonly string[]): string[] {
  return options.filter((option) => !/^[ug]idmap=/.test(option));
}

/** Without what forbids to mount an upper directory again. */
export function withoutVolatile(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    if (mount.type !== "overlay") return mount;
    const options = mount.options.filter((o) => o !== "volatile" && o !== "fsync=volatile");
    return { ...mount, options };
  });
}

export function overlayUpper(options: readonly string[]): string | undefined {
  return valueOf(options, "upperdir=");
}

/** The nearest first. A backslash before a colon or comma belongs to the name. */
export function overlayLowers(options: readonly string[]): string[] {
  const value = valueOf(options, "lowerdir=");
  return value === undefined || value === "" ? [] : value.split(/(?<!\\):/).map(unescape);
}

/** For `lowerdir=`, where a colon ends a name and a comma the option. */
export function escapeLower(path: string): string {
  return path.replaceAll(/[\\:,]/g, (special) => `\\${special}`);
}

function unescape(path: string): string {
  return path.replaceAll(/\\([\\:,])/g, "$1");
}

function valueOf(options: readonly string[], prefix: string): string | undefined {
  return options.findLast((option) => option.startsWith(prefix))?.slice(prefix.length);
}
