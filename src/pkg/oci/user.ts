import { CodedError, invalidArgument, notFound } from "#pkg/errors.ts";
import { editProcess, type SpecOption } from "#pkg/oci/spec-options.ts";
import type { RootFiles } from "#pkg/oci/user-files.ts";

/** Who a process is, in numbers of its container. */
export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

// runc takes no greater ones, and 2^32 would wrap to root (CVE-2024-40635).
const idMax = 2 ** 31 - 1;

/**
 * The user of a process. Its own group is among the additional ones, so that a program that only
 * looks at those does not think it is out of it (CVE-2023-25173).
 */
export function withUser(ids: UserIds, additionalGids: readonly number[] = []): SpecOption {
  const { uid, gid } = ids;
  const gids = additionalGids.includes(gid) ? additionalGids : [gid, ...additionalGids];
  return editProcess((process) => ({
    ...process,
    user: { ...process.user, uid, gid, additionalGids: gids },
  }));
}

/** More groups for the user there is; its own is among them afterwards. */
export function withAppendedGroups(gids: readonly number[]): SpecOption {
  return editProcess((process) => {
    const { gid = 0, additionalGids = [] } = process.user ?? {};
    const all = [...additionalGids, ...gids];
    const withOwn = all.includes(gid) ? all : [gid, ...all];
    return { ...process, user: { ...process.user, additionalGids: withOwn } };
  });
}

export function withUmask(umask: number): SpecOption {
  return editProcess((process) => ({ ...process, user: { ...process.user, umask } }));
}

/**
 * The numbers of `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` as an image or a
 * client writes them, looked up in the container's root.
 *
 * A uid alone takes its group from there, 0 where it is not known. Throws `invalid-argument` for
 * numbers out of range and other forms, `not-found` for names that are not there.
 */
export async function resolveUser(root: RootFiles, text: string): Promise<UserIds> {
  const [user = "", group, ...more] = text.split(":");
  if (more.length > 0) throw invalidArgument(`invalid USER value ${text}`);
  const uid = tryParseId(user, text, "uid");
  const gid = group === undefined ? undefined : tryParseId(group, text, "gid");
  if (group === undefined) {
    const users = parsePasswd(await root.read("etc/passwd"));
    const entry = users.find((each) => (uid === undefined ? each.name === user : each.uid === uid));
    if (entry) return checked(entry, text);
    if (uid === undefined) throw notFound(`no users found: ${JSON.stringify(user)}`);
    return { uid, gid: 0 };
  }
  // An empty part of the two is 0, as upstream.
  return {
    uid: uid ?? (user === "" ? 0 : await uidOf(root, user, text)),
    gid: gid ?? (group === "" ? 0 : await gidOf(root, group, text)),
  };
}

async function uidOf(root: RootFiles, name: string, text: string): Promise<number> {
  const entry = parsePasswd(await root.read("etc/passwd")).find((each) => each.name === name);
  if (!entry) throw notFound(`no users found: ${JSON.stringify(name)}`);
  return checked(entry, text).uid;
}

async function gidOf(root: RootFiles, name: string, text: string): Promise<number> {
  const entry = parseGroups(await root.read("etc/group")).find((each) => each.name === name);
  if (!entry) throw notFound(`no groups found: ${JSON.stringify(name)}`);
  return checked({ uid: 0, gid: entry.gid }, text).gid;
}

/**
 * The groups of `/etc/group` that list a user, given by name or uid, as a login would have them. A
 * group of the user's own name is not among them: it is the one of `/etc/passwd`.
 */
export async function additionalGids(root: RootFiles, user: string): Promise<number[]> {
  let name = user;
  if (/^[+-]?\d+$/.test(user)) {
    const entry = parsePasswd(await root.read("etc/passwd")).find(
      ({ uid }) => uid === Number(user),
    );
    if (!entry) return [];
    name = entry.name;
  }
  return parseGroups(await root.read("etc/group"))
    .filter((group) => group.name !== name && group.members.includes(name))
    .map(({ gid, name: group }) => inRange(gid, group));
}

/** Numbers of groups given by number or name. Throws `not-found` for a name that is not there. */
export async function resolveGroups(root: RootFiles, groups: readonly string[]): Promise<number[]> {
  const known = parseGroups(await root.read("etc/group"));
  return groups.map((group) => {
    if (/^\d+$/.test(group) && Number(group) <= 0xffffffff) return Number(group);
    // The last of a name, as upstream.
    const entry = known.findLast(({ name }) => name === group);
    if (!entry) throw notFound(`unable to find group ${group}`);
    return inRange(entry.gid, group);
  });
}

interface PasswdEntry extends UserIds {
  readonly name: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

function parsePasswd(text: string | undefined): PasswdEntry[] {
  return linesOf(text).map(([name = "", , uid = "", gid = ""]) => {
    return { name, uid: numberOf(uid), gid: numberOf(gid) };
  });
}

function parseGroups(text: string | undefined): GroupEntry[] {
  return linesOf(text).map(([name = "", , gid = "", members = ""]) => {
    return { name, gid: numberOf(gid), members: members === "" ? [] : members.split(",") };
  });
}

function linesOf(text: string | undefined): string[][] {
  return (text ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .map((line) => line.split(":"));
}

/** NaN for what is no number: such an entry is found by name, and then refused. */
function numberOf(text: string): number {
  return /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
}

function checked({ uid, gid }: UserIds, text: string): UserIds {
  for (const [id, kind] of [
    [uid, "uid"],
    [gid, "gid"],
  ] as const) {
    if (!isId(id)) throw outOfRange(text, kind);
  }
  return { uid, gid };
}

function inRange(gid: number, group: string): number {
  if (isId(gid)) return gid;
  throw invalidArgument(`group ${JSON.stringify(group)}: gid out of range`);
}

function tryParseId(part: string, text: string, kind: "uid" | "gid"): number | undefined {
  if (!/^[+-]?\d+$/.test(part)) return undefined;
  const id = Number(part);
  if (!isId(id)) throw outOfRange(text, kind);
  return id;
}

function isId(id: number): boolean {
  return Number.isSafeInteger(id) && id >= 0 && id <= idMax;
}

function outOfRange(text: string, kind: "uid" | "gid"): CodedError {
  return new CodedError(
    "invalid-argument",
    `invalid USER value ${JSON.stringify(text)}: ${kind} out of range`,
  );
}
