import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { invalidArgument, isErrno } from "#pkg/errors.ts";

/** Where a container's resources are accounted: one directory, or one for each v1 controller. */
export type Cgroup =
  | { readonly version: 2; readonly path: string }
  | { readonly version: 1; readonly paths: ReadonlyMap<string, string> };

/** The cgroup of a process; undefined when it has gone. */
export function cgroupOf(pid: number): Cgroup | undefined {
  const membership = readIfThere(`/proc/${pid}/cgroup`);
  const mountinfo = readIfThere("/proc/self/mountinfo") ?? "";
  return membership === undefined ? undefined : parseCgroup(membership, mountinfo);
}

/**
 * `membership` is /proc/PID/cgroup, `mountinfo` that of this process.
 *
 * With any v1 controller mounted (a hybrid hierarchy too) it is v1, as upstream has it.
 */
export function parseCgroup(membership: string, mountinfo: string): Cgroup | undefined {
  const { unified, controllers } = parseMounts(mountinfo);
  const paths = new Map<string, string>();
  for (const line of membership.trim().split("\n")) {
    const [, names = "", ...rest] = line.split(":");
    const path = rest.join(":");
    if (names === "" && unified !== undefined && controllers.size === 0) {
      return { version: 2, path: join(unified, path) };
    }
    for (const name of names.split(",")) {
      const mount = controllers.get(name);
      if (mount !== undefined) paths.set(name, join(mount, path));
    }
  }
  return paths.size === 0 ? undefined : { version: 1, paths };
}

/**
 * The cgroup of that path below every hierarchy that has it; undefined where none has.
 *
 * Throws `invalid-argument` for a path that climbs.
 */
export function cgroupAt(path: string): Cgroup | undefined {
  if (path.split("/").includes("..")) {
    throw invalidArgument(`cgroup path ${JSON.stringify(path.slice(0, 200))}: it climbs`);
  }
  const { unified, controllers } = parseMounts(readIfThere("/proc/self/mountinfo") ?? "");
  if (controllers.size === 0) {
    const directory = unified === undefined ? undefined : join(unified, path);
    const isThere = directory !== undefined && existsSync(directory);
    return isThere ? { version: 2, path: directory } : undefined;
  }
  const paths = [...controllers]
    .map(([name, point]) => [name, join(point, path)] as const)
    .filter(([, directory]) => existsSync(directory));
  return paths.length === 0 ? undefined : { version: 1, paths: new Map(paths) };
}

function parseMounts(mountinfo: string): {
  unified: string | undefined;
  controllers: Map<string, string>;
} {
  let unified: string | undefined;
  const controllers = new Map<string, string>();
  for (const line of mountinfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const point = before.split(" ")[4] ?? "";
    const [type, , options = ""] = after.split(" ");
    if (type === "cgroup2") unified ??= point;
    if (type !== "cgroup") continue;
    for (const option of options.split(",")) {
      if (!option.startsWith("name=") && option !== "rw") controllers.set(option, point);
    }
  }
  return { unified, controllers };
}

/** One directory's files as numbers. What is not there, or no number, is left out or 0. */
export class CgroupFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  text(name: string): string | undefined {
    return readIfThere(join(this.#directory, name));
  }

  /** `max` reads as the given value. */
  number(name: string, max = 0n): bigint {
    return toNumber(this.text(name) ?? "", max);
  }

  /** Lines of a key and a number. */
  table(name: string): ReadonlyMap<string, bigint> {
    const rows = (this.text(name) ?? "").split("\n").map((line) => line.split(" "));
    return new Map(rows.map(([key = "", value = ""]) => [key, toNumber(value)]));
  }

  names(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return [];
      throw error;
    }
  }
}

/** The greatest number that the messages can carry. */
const uint64Max = 0xffff_ffff_ffff_ffffn;

/** Never more than 64 bits hold: what no message can carry would cost all the others. */
export function toNumber(text: string, max = 0n): bigint {
  const word = text.trim();
  if (word === "max") return max;
  if (!/^\d{1,40}$/.test(word)) return 0n;
  const number = BigInt(word);
  return number < uint64Max ? number : uint64Max;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // Controllers differ in what they offer, and a cgroup goes with its container.
    if (isErrno(error, "ENOENT", "ESRCH", "ENODEV", "ENOTSUP", "EINVAL", "EIO")) return undefined;
    throw error;
  }
}
