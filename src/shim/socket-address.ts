import { createHash } from "node:crypto";
import { join } from "node:path";
import { invalidArgument } from "#pkg/errors.ts";

/** Where shims keep their sockets when the daemon does not say. */
export const defaultSocketDir = "/run/containerd/s";

// sun_path holds 108 bytes; upstream leaves room for two.
const pathLimit = 106;

/**
 * The address of a group's supervisor: it depends on the daemon, the namespace and the group and on
 * nothing else, so that whoever wants to join the group finds it.
 *
 * Throws `invalid-argument` when the directory is too deep for a socket.
 */
export function socketAddress(
  socketDir: string,
  group: { readonly daemonAddress: string; readonly namespace: string; readonly id: string },
): string {
  const name = createHash("sha256")
    .update(join(group.daemonAddress, group.namespace, group.id))
    .digest("hex");
  const path = join(socketDir, name);
  if (path.length > pathLimit) {
    throw invalidArgument(`${JSON.stringify(path)}: unix socket path too long (> ${pathLimit})`);
  }
  return `unix://${path}`;
}

/** The path in a `unix://` address. Throws `invalid-argument` for any other. */
export function socketPath(address: string): string {
  if (!address.startsWith("unix:///")) {
    throw invalidArgument(`address ${JSON.stringify(address)} is not of the form unix:///path`);
  }
  return address.slice("unix://".length);
}
