import { MS } from "#pkg/sys/constants.ts";

interface Flag {
  readonly flag: number;
  readonly clear: boolean;
}

const set = (flag: number): Flag => ({ flag, clear: false });
const clear = (flag: number): Flag => ({ flag, clear: true });

// mount(8)'s words for what is a flag and no option of the file system.
const flags: Readonly<Record<string, Flag>> = {
  async: clear(MS.SYNCHRONOUS),
  atime: clear(MS.NOATIME),
  bind: set(MS.BIND),
  defaults: set(0),
  dev: clear(MS.NODEV),
  diratime: clear(MS.NODIRATIME),
  dirsync: set(MS.DIRSYNC),
  exec: clear(MS.NOEXEC),
  mand: set(MS.MANDLOCK),
  noatime: set(MS.NOATIME),
  nodev: set(MS.NODEV),
  nodiratime: set(MS.NODIRATIME),
  noexec: set(MS.NOEXEC),
  nomand: clear(MS.MANDLOCK),
  norelatime: clear(MS.RELATIME),
  nostrictatime: clear(MS.STRICTATIME),
  nosuid: set(MS.NOSUID),
  rbind: set(MS.BIND | MS.REC),
  relatime: set(MS.RELATIME),
  remount: set(MS.REMOUNT),
  ro: set(MS.RDONLY),
  rw: clear(MS.RDONLY),
  strictatime: set(MS.STRICTATIME),
  suid: clear(MS.NOSUID),
  sync: set(MS.SYNCHRONOUS),
  private: set(MS.PRIVATE),
  rprivate: set(MS.PRIVATE | MS.REC),
  shared: set(MS.SHARED),
  rshared: set(MS.SHARED | MS.REC),
  slave: set(MS.SLAVE),
  rslave: set(MS.SLAVE | MS.REC),
  unbindable: set(MS.UNBINDABLE),
  runbindable: set(MS.UNBINDABLE | MS.REC),
};

export const propagationFlags: number = MS.PRIVATE | MS.SHARED | MS.SLAVE | MS.UNBINDABLE;

/** Splits options as they stand in fstab into mount(2)'s flags and the file system's own data. */
export function parseMountOptions(options: readonly string[]): { flags: number; data: string[] } {
  let bits = 0;
  const data: string[] = [];
  for (const option of options) {
    const known = Object.hasOwn(flags, option) ? flags[option] : undefined;
    if (known === undefined) data.push(option);
    else bits = known.clear ? bits & ~known.flag : bits | known.flag;
  }
  return { flags: bits, data };
}
