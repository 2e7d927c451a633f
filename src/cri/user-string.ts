import { invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";

/**
 * A user as images write it, of what a pod says: `USER`, `UID`, each with `:GID`, or empty where it
 * says nothing. Throws `invalid-argument` for a group without a user.
 */
export function userString({
  username,
  uid,
  gid,
}: {
  readonly username: string;
  readonly uid: bigint | undefined;
  readonly gid: bigint | undefined;
}): string {
  const user = username === "" && uid !== undefined ? String(uid) : username;
  if (gid === undefined) return user;
  if (user === "") {
    throw invalidArgument(`user group ${quote(String(gid))} is specified without user`);
  }
  return `${user}:${gid}`;
}
