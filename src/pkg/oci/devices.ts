import { lstat, readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path/posix";
import { CodedError, invalidArgument, isErrno } from "#pkg/errors.ts";
import type { LinuxDevice } from "#pkg/oci/linux-spec.ts";
import { withDeviceRules } from "#pkg/oci/resource-options.ts";
import { applyOptions, editLinux, type SpecOption } from "#pkg/oci/spec-options.ts";

// Below /dev, file systems of their own and what containers and udev keep for themselves.
const skipped = new Set(["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"]);
const depthMax = 32;
const devicesMax = 65_536;

/** Adds nodes, and allows each for `access` (of `r`, `w`, `m`). */
export function withDevices(devices: readonly LinuxDevice[], access: string): SpecOption {
  const rules = devices.map(({ type, major = 0, minor = 0 }) => {
    return { allow: true, type, major, minor, access };
  });
  return (spec) => applyOptions(spec, withDeviceNodes(devices), withDeviceRules(rules));
}

/** Adds nodes and leaves what may be done with them as it is. */
export function withDeviceNodes(devices: readonly LinuxDevice[]): SpecOption {
  return editLinux((linux) => ({ ...linux, devices: [...(linux.devices ?? []), ...devices] }));
}

/** Every device of the host but its terminals. */
export function hostDevices(): Promise<LinuxDevice[]> {
  return devicesAt("/dev");
}

/**
 * The device at a path, or those in the directory there and below it. With `containerPath` that is
 * what it, or the directory, is called inside.
 *
 * Throws `invalid-argument` when the path is neither.
 */
export async function devicesAt(path: string, containerPath?: string): Promise<LinuxDevice[]> {
  if ((await stat(path)).isDirectory()) {
    const found: LinuxDevice[] = [];
    await collect(path, { containerPath, found, depth: 0 });
    return found;
  }
  const device = await deviceAt(path);
  if (device === undefined) {
    throw invalidArgument(`get device path: ${JSON.stringify(path)}: not a device node`);
  }
  return [containerPath === undefined ? device : { ...device, path: containerPath }];
}

async function collect(
  directory: string,
  at: { containerPath: string | undefined; found: LinuxDevice[]; depth: number },
): Promise<void> {
  const { containerPath, found, depth } = at;
  const inside = (name: string): string | undefined =>
    containerPath === undefined ? undefined : join(containerPath, basename(name));
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      if (skipped.has(entry.name)) continue;
      if (depth >= depthMax) throw new CodedError("resource-exhausted", `${path} is too deep`);
      await collect(path, { containerPath: inside(entry.name), found, depth: depth + 1 });
    } else if (entry.name !== "console") {
      const device = await deviceIfThere(path);
      if (device === undefined || device.type === "p") continue;
      if (found.length >= devicesMax) {
        throw new CodedError("resource-exhausted", `${path}: more than ${devicesMax} devices`);
      }
      found.push({ ...device, path: inside(entry.name) ?? path });
    }
  }
}

async function deviceIfThere(path: string): Promise<LinuxDevice | undefined> {
  try {
    return await deviceAt(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined; // unplugged meanwhile
    throw error;
  }
}

/** What the node at the path is; undefined for a file that is no device. A link is not followed. */
export async function deviceAt(path: string): Promise<LinuxDevice | undefined> {
  const found = await lstat(path);
  const type = typeOf(found);
  if (type === undefined) return undefined;
  const { major, minor } = numbersOf(found.rdev);
  return {
    path,
    type,
    major,
    minor,
    fileMode: found.mode & 0o7777,
    uid: found.uid,
    gid: found.gid,
  };
}

function typeOf(found: Awaited<ReturnType<typeof lstat>>): "c" | "b" | "p" | undefined {
  if (found.isCharacterDevice()) return "c";
  if (found.isBlockDevice()) return "b";
  return found.isFIFO() ? "p" : undefined;
}

/** The kernel's packing: 12 bits of major and 20 of minor, in glibc's order. */
function numbersOf(rdev: number): { major: number; minor: number } {
  const device = BigInt(rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffffffffn);
  return { major: Number(major), minor: Number(minor) };
}
