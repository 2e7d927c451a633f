import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { isErrno } from "#pkg/errors.ts";

/** What the daemon and its commands call themselves. The version is that of package.json. */
export const product = { name: "containerd", package: "containerd-ts", version: "v0.1.0" } as const;

/**
 * The commit that a checkout stands at; empty where the sources are no checkout of git.
 *
 * `dir` is the folder of package.json.
 */
export async function readRevision(dir: string): Promise<string> {
  try {
    const own = await gitDirOf(dir);
    const head = (await readFile(join(own, "HEAD"), "utf8")).trim();
    const ref = /^ref: (refs\/\S+)$/.exec(head)?.[1];
    if (ref === undefined) return commit(head);
    const shared = await sharedDirOf(own);
    return (await readLooseRef(shared, ref)) ?? (await readPackedRef(shared, ref));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return "";
    throw error;
  }
}

/** `.git`, or where it points: in a further work tree it is a file that says `gitdir: <path>`. */
async function gitDirOf(dir: string): Promise<string> {
  const path = join(dir, ".git");
  if ((await stat(path)).isDirectory()) return path;
  const target = /^gitdir: (.+)$/m.exec(await readFile(path, "utf8"))?.[1];
  return resolve(dir, target ?? ".git");
}

/** Where the branches are: a further work tree has a HEAD of its own and nothing else. */
async function sharedDirOf(gitDir: string): Promise<string> {
  const common = await readIfThere(join(gitDir, "commondir"));
  return common === undefined ? gitDir : resolve(gitDir, common.trim());
}

async function readLooseRef(gitDir: string, ref: string): Promise<string | undefined> {
  const text = await readIfThere(join(gitDir, ref));
  return text === undefined ? undefined : commit(text);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function readPackedRef(gitDir: string, ref: string): Promise<string> {
  const packed = await readFile(join(gitDir, "packed-refs"), "utf8");
  return commit(
    packed
      .split("\n")
      .find((line) => line.endsWith(` ${ref}`))
      ?.split(" ")[0] ?? "",
  );
}

function commit(text: string): string {
  const id = text.trim();
  return /^[0-9a-f]{40,64}$/.test(id) ? id : "";
}
