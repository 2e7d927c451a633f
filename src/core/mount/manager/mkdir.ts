import type { MountTransform } from "#core/mount/manager.ts";
import type { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import { invalidArgument, notImplemented, wrap } from "#pkg/errors.ts";
import { AT } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

const prefix = "X-containerd.mkdir.";
const defaultMode = 0o700;

interface Directory {
  readonly path: string;
  readonly mode: number;
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Makes the directories of options `X-containerd.mkdir.path=PATH[:MODE[:UID:GID]]` and takes the
 * options away. One that is there has to have that mode; its parents have to be there.
 */
export function mkdir(sys: Syscalls, roots: AllowedRoots): MountTransform {
  return async (_ctx, mount) => {
    for (const option of mount.options) {
      if (option.startsWith(prefix)) make(sys, roots, parse(option));
    }
    return { ...mount, options: mount.options.filter((option) => !option.startsWith(prefix)) };
  };
}

function make(sys: Syscalls, roots: AllowedRoots, { path, mode, owner }: Directory): void {
  using opened = roots.open(path, "mkdir");
  const { dirFd, name } = opened;
  const there = roots.tryStat(dirFd, name);
  if (there) {
    if ((Number(there.mode) & 0o777) === mode) return;
    throw notImplemented("chmod not supported yet for mkdir handler");
  }
  try {
    sys.mkdirat(dirFd, name, mode);
    // Whatever the umask has taken away.
    sys.fchmodat(dirFd, name, mode, 0);
    if (owner) sys.fchownat(dirFd, name, owner, AT.SYMLINK_NOFOLLOW);
  } catch (error) {
    throw wrap(`failed to create directory ${JSON.stringify(path)}`, error);
  }
}

function parse(option: string): Directory {
  const invalid = (): Error => invalidArgument(`invalid mkdir option ${JSON.stringify(option)}`);
  const value = option.slice(prefix.length);
  if (!value.startsWith("path=")) throw invalid();
  const parts = value.slice("path=".length).split(":");
  if (parts.length !== 1 && parts.length !== 2 && parts.length !== 4) throw invalid();
  const [path = "", modeText, uidText, gidText] = parts;
  if (modeText !== undefined && !/^0*[0-7]{1,3}$/.test(modeText)) {
    throw invalidArgument(`invalid mode ${modeText}`);
  }
  const mode = modeText === undefined ? defaultMode : Number.parseInt(modeText, 8);
  if (uidText === undefined || gidText === undefined) return { path, mode, owner: undefined };
  return { path, mode, owner: { uid: id("uid", uidText), gid: id("gid", gidText) } };
}

function id(what: string, text: string): number {
  const number = Number(text);
  if (/^\d{1,10}$/.test(text) && number < 0xffff_ffff) return number;
  throw invalidArgument(`invalid ${what} ${JSON.stringify(text)}`);
}
