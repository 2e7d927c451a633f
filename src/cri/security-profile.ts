import { open } from "node:fs/promises";
import { constants } from "node:fs";
import type { SecurityProfile } from "#cri/pod-sandbox-config.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";
import type { SeccompProfile } from "#pkg/oci/linux-spec.ts";
import { parseSeccompProfile } from "#pkg/oci/parse-spec.ts";
import { hostSeccompProfile } from "#pkg/oci/seccomp-default.ts";

const localhostPrefix = "localhost/";
/** Those that there are have some tens of kilobytes. */
const profileBytesMax = 1 << 20;

/**
 * A profile in the older form, a path. Undefined for an empty one. Throws `invalid-argument` for
 * one that is neither a known word nor `localhost/PATH`.
 */
export function parseProfilePath(path: string): SecurityProfile | undefined {
  switch (path) {
    case "":
      return undefined;
    case "runtime/default":
    case "docker/default":
      return { type: "runtime-default", localhostRef: "" };
    case "unconfined":
      return { type: "unconfined", localhostRef: "" };
    default:
      if (!path.startsWith(localhostPrefix)) {
        throw invalidArgument(`invalid profile ${quote(path.slice(0, 200))}`);
      }
      return { type: "localhost", localhostRef: path.slice(localhostPrefix.length) };
  }
}

export interface SeccompOptions {
  readonly isPrivileged: boolean;
  /** Whether the kernel has seccomp. */
  readonly isSupported: boolean;
  /** The container's bounding set. */
  readonly capabilities: readonly string[];
}

/**
 * The seccomp profile that is asked for; undefined for none. Throws `invalid-argument` for a
 * profile that cannot be: without support, or with a file that is none.
 */
export async function seccompOf(
  profile: SecurityProfile | undefined,
  { isPrivileged, isSupported, capabilities }: SeccompOptions,
): Promise<SeccompProfile | undefined> {
  if (isPrivileged || !profile) return undefined;
  if (!isSupported) {
    if (profile.type === "unconfined") return undefined;
    throw invalidArgument("seccomp is not supported");
  }
  if (profile.type !== "localhost" && profile.localhostRef !== "") {
    const words =
      "seccomp config invalid LocalhostRef must only be set if ProfileType is Localhost";
    throw invalidArgument(words);
  }
  switch (profile.type) {
    case "unconfined":
      return undefined;
    case "runtime-default":
      return hostSeccompProfile(capabilities);
    case "localhost":
      return readProfile(profile.localhostRef);
  }
}

async function readProfile(ref: string): Promise<SeccompProfile> {
  const path = ref.startsWith(localhostPrefix) ? ref.slice(localhostPrefix.length) : ref;
  const what = `seccomp profile ${quote(path.slice(0, 200))}`;
  let text: Buffer;
  try {
    // Whoever names the file may name a pipe, which nobody may ever write to.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = await file.stat().then((stat) => {
      if (!stat.isFile()) throw invalidArgument("not a regular file");
      return stat;
    });
    if (size > profileBytesMax) throw invalidArgument(`more than ${profileBytesMax} bytes`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
    text = buffer.subarray(0, bytesRead);
  } catch (error) {
    throw invalidArgument(`cannot load ${what}: ${messageOf(error)}`, { cause: error });
  }
  try {
    return parseSeccompProfile(text);
  } catch (error) {
    throw invalidArgument(`decoding ${what} failed: ${messageOf(error)}`, { cause: error });
  }
}
