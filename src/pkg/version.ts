import { readFile } from "node:fs/promises";
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
    const head = (await readFile(`${dir}/.git/HEAD`, "utf8")).trim();
    const ref = /^ref: (refs\/\S+)$/.exec(head)?.[1];
    if (ref === undefined) return commit(head);
    return (await readLooseRef(dir, ref)) ?? (await readPackedRef(dir, ref));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return "";
    throw error;
  }
}

async function readLooseRef(dir: string, ref: string): Promise<string | undefined> {
  try {
    return commit(await readFile(`${dir}/.git/${ref}`, "utf8"));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function readPackedRef(dir: string, ref: string): Promise<string> {
  const packed = await readFile(`${dir}/.git/packed-refs`, "utf8");
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
