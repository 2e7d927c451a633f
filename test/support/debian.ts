import { existsSync } from "node:fs";
import { join } from "node:path";

/** Where `npm run setup` unpacks the Debian packages that only tests need. */
const unpacked: string = join(import.meta.dirname, "../../.cache/deb");

/** A program of those packages. Throws with the command that mends it where setup has not run. */
export function debianProgram(name: "ctr" | "containerd" | "docker-registry" | "busybox"): string {
  const found = [join(unpacked, "usr/bin", name), join(unpacked, "bin", name)].find(existsSync);
  if (found === undefined) throw new Error(`${name} is not set up: npm run setup`);
  return found;
}
