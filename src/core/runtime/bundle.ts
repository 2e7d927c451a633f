import {
  chmod,
  chown,
  lstat,
  mkdir,
  readFile,
  readdir,
  rename,
  rm,
  rmdir,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Any } from "#pkg/any.ts";
import { alreadyExists, isErrno, wrap } from "#pkg/errors.ts";
import { assertIdentifier } from "#pkg/identifier.ts";

/** The plugin's directories: `root` outlives a reboot, `state` does not. */
export interface BundleRoots {
  readonly root: string;
  readonly state: string;
}

const specType = "opencontainers/runtime-spec/1/Spec";

/** Unmounts everything at or below a path; throws when something stays mounted. */
export type Unmount = (path: string) => Promise<void>;

/**
 * The OCI bundle of one task: `<state>/<namespace>/<id>` with `config.json`, an empty `rootfs` for
 * the shim to mount on, and `work`, a link to `<root>/<namespace>/<id>`. Shim and supervisor keep
 * their files in it too.
 */
export interface Bundle {
  readonly id: string;
  readonly namespace: string;
  readonly path: string;
  /** `<root>/<namespace>/<id>`. */
  readonly work: string;
}

export function bundleAt(roots: BundleRoots, namespace: string, id: string): Bundle {
  return {
    id,
    namespace,
    path: join(roots.state, namespace, id),
    work: join(roots.root, namespace, id),
  };
}

/**
 * Makes the directories and writes the spec. On failure nothing is left.
 *
 * The directory is the claim on the id: throws `already-exists` when it is there,
 * `invalid-argument` for a bad id.
 */
export async function createBundle(
  roots: BundleRoots,
  task: { readonly namespace: string; readonly id: string; readonly spec: Any | undefined },
): Promise<Bundle> {
  assertTaskId(task.id);
  const bundle = bundleAt(roots, task.namespace, task.id);
  const { work } = bundle;
  await using undo = new AsyncDisposableStack();
  // State's parents let a remapped root through to its bundle; only the bundle itself is closed.
  await mkdir(dirname(bundle.path), { recursive: true, mode: 0o711 });
  await claim(bundle);
  undo.defer(() => rm(bundle.path, { recursive: true, force: true }));
  if (task.spec?.typeUrl.endsWith(specType)) {
    await openToRemappedRoot(bundle.path, task.spec.value);
  }
  await mkdir(join(bundle.path, "rootfs"), { mode: 0o711 });
  await mkdir(dirname(work), { recursive: true, mode: 0o711 });
  // Left by a reboot that emptied the state and not the root.
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { mode: 0o711 });
  undo.defer(() => rm(work, { recursive: true, force: true }));
  await symlink(work, join(bundle.path, "work"));
  // Last: a bundle without a spec is one whose making was cut short, and no shim has seen it.
  if (task.spec) await writeBundleFile(bundle, "config.json", task.spec.value, 0o600);
  undo.move();
  return bundle;
}

/**
 * Removes the bundle and its work directory; nothing happens where they are gone already.
 *
 * The name is free again as soon as the directory is renamed: a crash later leaves a hidden one,
 * which `removeHidden` takes away at the next start.
 */
export async function deleteBundle(bundle: Bundle, unmount: Unmount): Promise<void> {
  // Never a recursive removal across a mount: it would empty the snapshot below.
  await unmount(bundle.path);
  await removeRootfs(bundle.path);
  await removeAtomically(bundle.path);
  await removeAtomically(bundle.work);
}

/** Namespaces and the ids below them, hidden names left out. */
export async function listBundles(
  roots: BundleRoots,
): Promise<ReadonlyMap<string, readonly Bundle[]>> {
  const found = new Map<string, readonly Bundle[]>();
  for (const namespace of await directories(roots.state)) {
    const ids = await directories(join(roots.state, namespace));
    found.set(
      namespace,
      ids.map((id) => bundleAt(roots, namespace, id)),
    );
  }
  return found;
}

/** Finishes removals of bundles that a crash cut short; throws the first failure when all were tried. */
export async function removeHidden(directory: string, unmount: Unmount): Promise<void> {
  let first: { readonly error: unknown } | undefined;
  for (const entry of await readDirectory(directory)) {
    if (!entry.isDirectory() || !entry.name.startsWith(".")) continue;
    const path = join(directory, entry.name);
    try {
      await unmount(path);
      await removeTree(path);
    } catch (error) {
      first ??= { error };
    }
  }
  if (first) throw first.error; // -- as it was thrown
}

/** Work directories whose task is gone: after a reboot the root still has them. */
export async function removeOrphanWork(
  root: string,
  namespace: string,
  isAlive: (id: string) => boolean,
): Promise<void> {
  const parent = join(root, namespace);
  for (const name of await names(parent)) {
    if (!isAlive(name)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

let serial = 0;

/**
 * Replaces a file of the bundle in one step.
 *
 * Not synced: the state directory is in memory, and a crash of the machine ends the task as well.
 */
export async function writeBundleFile(
  bundle: Bundle,
  name: string,
  data: string | Uint8Array,
  mode: number,
): Promise<void> {
  serial += 1;
  const temporary = join(bundle.path, `.${name}.${process.pid}.${serial}`);
  await writeFile(temporary, data, { mode, flag: "wx" });
  await rename(temporary, join(bundle.path, name));
}

/** Undefined when there is no such file. */
export async function readBundleFile(bundle: Bundle, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(bundle.path, name), "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function assertTaskId(id: string): void {
  try {
    assertIdentifier(id);
  } catch (error) {
    throw wrap(`invalid task id ${id}`, error);
  }
}

async function claim(bundle: Bundle): Promise<void> {
  try {
    await mkdir(bundle.path, { mode: 0o700 });
  } catch (error) {
    if (isErrno(error, "EEXIST")) throw alreadyExists(`task ${bundle.id}`, { cause: error });
    throw error;
  }
}

/**
 * Under a user namespace the container's root reaches its bundle through the group it is mapped to.
 */
async function openToRemappedRoot(path: string, spec: Uint8Array): Promise<void> {
  const gid = remappedGid(spec);
  if (gid === 0) return;
  await chown(path, (await lstat(path)).uid, gid);
  await chmod(path, 0o710);
}

interface MaybeSpec {
  readonly linux?: { readonly gidMappings?: unknown } | null;
}

function remappedGid(spec: Uint8Array): number {
  let parsed: MaybeSpec | null;
  try {
    // -- each step below is checked
    parsed = JSON.parse(Buffer.from(spec).toString("utf8")) as MaybeSpec | null;
  } catch (error) {
    throw wrap("container spec", error);
  }
  const mappings = parsed?.linux?.gidMappings;
  if (!Array.isArray(mappings)) return 0;
  for (const mapping of mappings as readonly unknown[]) {
    if (typeof mapping !== "object" || mapping === null) continue;
    // -- an object, as just seen
    const { containerID, hostID } = mapping as Readonly<Record<string, unknown>>;
    if ((containerID ?? 0) === 0 && typeof hostID === "number") return hostID;
  }
  return 0;
}

/**
 * Says whether something is mounted where a container's files are: the kernel removes no mount point,
 * while what is removed recursively would be emptied first. Files without a mount are the bundle's own.
 */
async function removeRootfs(bundle: string): Promise<void> {
  const rootfs = join(bundle, "rootfs");
  try {
    await rmdir(rootfs);
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTEMPTY", "ENOTDIR")) throw error;
  }
}

async function removeAtomically(path: string): Promise<void> {
  const hidden = join(dirname(path), `.${basename(path)}`);
  try {
    await rename(path, hidden);
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
    // A crash in the middle of an earlier removal has left one.
    await removeTree(hidden);
    if (isErrno(error, "ENOENT")) return;
    await rename(path, hidden);
  }
  await removeTree(hidden);
}

async function removeTree(bundle: string): Promise<void> {
  await removeRootfs(bundle);
  await rm(bundle, { recursive: true, force: true });
}

async function directories(path: string): Promise<string[]> {
  const entries = await readDirectory(path);
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
    .map((entry) => entry.name);
}

async function names(path: string): Promise<string[]> {
  return (await readDirectory(path)).map((entry) => entry.name);
}

async function readDirectory(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
