import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type Output, type RunOptions, run } from "#test/support/command.ts";

const cache: string = join(import.meta.dirname, "../../.cache");
/** Where `npm run setup` unpacks the Debian packages that only tests need. */
const unpacked: string = join(cache, "deb");

/** Of the machine's own Debian release. */
type Program =
  | "ctr"
  | "containerd"
  | "containerd-shim-runc-v2"
  | "docker-registry"
  | "busybox"
  | "skopeo"
  | "umoci"
  | "strace";

/** Debian releases newer than the machine's, and what of them is unpacked. */
interface NewerPrograms {
  /** containerd 1.7 */
  readonly trixie: "containerd-shim-runc-v2";
  /** containerd 2.x: which one exactly changes with the archive, so a test asks the program for its version. */
  readonly sid: "ctr" | "containerd" | "containerd-shim-runc-v2";
}

/**
 * A program of those packages; `CONTAINERD_TEST_GO` names a folder with a newer Go containerd to use
 * instead of theirs. Throws with the command that mends it where setup has not run.
 */
export function debianProgram(name: Program): string {
  const newer = process.env["CONTAINERD_TEST_GO"];
  if (newer !== undefined && (name === "ctr" || name === "containerd")) return join(newer, name);
  const found = [join(unpacked, "usr/bin", name), join(unpacked, "bin", name)].find(existsSync);
  if (found === undefined) throw new Error(`${name} is not set up: npm run setup`);
  return found;
}

/**
 * A program of a newer release; the test that uses it states the need `trixie` or `sid`. `CONTAINERD_TEST_GO` holds for
 * those of `sid` too.
 */
export function newerProgram<S extends keyof NewerPrograms>(
  suite: S,
  name: NewerPrograms[S],
): string {
  const path = newerPath(suite, name);
  if (!existsSync(path)) throw new Error(`${name} of ${suite} is not set up: npm run setup`);
  return path;
}

/** Whether setup found the programs of a newer release. */
export function hasNewer(suite: keyof NewerPrograms): boolean {
  return existsSync(newerPath(suite, "containerd-shim-runc-v2"));
}

function newerPath(suite: keyof NewerPrograms, name: string): string {
  const newer = process.env["CONTAINERD_TEST_GO"];
  if (newer !== undefined && suite === "sid") return join(newer, name);
  return join(cache, suite, "usr/bin", name);
}

/** Runs a program that is linked with libraries of the unpacked packages, as `skopeo` is. */
export function runDebian(
  name: Program,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Output> {
  const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", ...options.env, ...libraryEnv() };
  return run([debianProgram(name), ...args], { ...options, env });
}

function libraryEnv(): { LD_LIBRARY_PATH?: string } {
  const libraries = join(unpacked, "usr/lib");
  if (!existsSync(libraries)) return {};
  const folders = readdirSync(libraries).map((triplet) => join(libraries, triplet));
  return { LD_LIBRARY_PATH: folders.join(":") };
}
