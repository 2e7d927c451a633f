import { open, rename, rm } from "node:fs/promises";
import { normalize } from "node:path";
import type { MountTransform } from "#core/mount/manager.ts";
import type { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import type { RunProgram } from "#core/mount/mount-program.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, invalidArgument } from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";

const prefix = "X-containerd.mkfs.";

interface FileSystem {
  readonly sizeBytes: number;
  readonly type: string;
  readonly uuid: string;
}

/**
 * Makes the source a file with an empty file system in it, unless it is there: options
 * `X-containerd.mkfs.{size,fs,uuid}`, of which the size must be given. The options are taken away.
 */
export function mkfs(roots: AllowedRoots, run: RunProgram): MountTransform {
  const locks = new KeyedMutex();
  return async (ctx, mount) => {
    using opened = roots.open(mount.source, "mkfs");
    const made = parse(mount.options.filter((option) => option.startsWith(prefix)));
    // A second one would format the file of the first, which may be mounted by then.
    using _ = await locks.acquire(normalize(mount.source), ctx.signal);
    if (!roots.tryStat(opened.dirFd, opened.name)) {
      // By the process's number: it is another program that makes the file system.
      const dir = `/proc/${process.pid}/fd/${opened.dirFd}`;
      await makeFile(ctx, { dir, name: opened.name, source: mount.source }, made, run);
    }
    return { ...mount, options: mount.options.filter((option) => !option.startsWith(prefix)) };
  };
}

async function makeFile(
  ctx: Context,
  { dir, name, source }: { readonly dir: string; readonly name: string; readonly source: string },
  { sizeBytes, type, uuid }: FileSystem,
  run: RunProgram,
): Promise<void> {
  const unfinished = `${dir}/.${name}.mkfs`;
  await rm(unfinished, { force: true });
  try {
    await using file = await open(unfinished, "wx", 0o640);
    await file.truncate(sizeBytes);
    const { failure, output } = await run(ctx, `mkfs.${type}`, [
      "-q",
      ...uuidArguments(type, uuid),
      unfinished,
    ]);
    if (failure !== "") {
      const words = `failed format ${JSON.stringify(source)}: mkfs.${type} failed: ${output}: ${failure}`;
      throw new CodedError("unknown", words);
    }
    await file.sync();
    // Under its name only when it is whole: one that is there is not formatted again.
    await rename(unfinished, `${dir}/${name}`);
    // Nor would one be made again over what a power cut has undone.
    await syncDirectory(dir);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

function uuidArguments(type: string, uuid: string): readonly string[] {
  if (uuid === "") return [];
  return type === "xfs" ? ["-m", `uuid=${uuid}`] : ["-U", uuid];
}

function parse(options: readonly string[]): FileSystem {
  const values = new Map<string, string>();
  for (const option of options) {
    const [key = "", value = "true"] = option.slice(prefix.length).split(/=(.*)/s, 2);
    if (!["size", "fs", "uuid"].includes(key)) {
      throw invalidArgument(`unknown mount option ${key}`);
    }
    values.set(key, value);
  }
  const type = values.get("fs") ?? "ext4";
  if (!["ext2", "ext3", "ext4", "xfs"].includes(type)) {
    throw invalidArgument(`unsupported filesystem ${JSON.stringify(type)}`);
  }
  const uuid = values.get("uuid") ?? "";
  if (!/^[0-9a-fA-F-]{0,36}$/.test(uuid)) {
    throw invalidArgument(`mkfs.uuid ${JSON.stringify(uuid)}`);
  }
  const size = values.get("size");
  if (size === undefined) throw invalidArgument("mkfs requires mkfs.size option");
  return { sizeBytes: parseSize(size), type, uuid };
}

/** `64M`, `64MB`, `64MiB`, `1.5g`: powers of 1024 all of them. */
function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text);
  const power = ["", "k", "m", "g", "t", "p"].indexOf((match?.[2] ?? "").toLowerCase());
  const size = Math.floor(Number(match?.[1]) * 1024 ** power);
  if (Number.isSafeInteger(size) && size > 0) return size;
  throw invalidArgument(`bad option size: ${JSON.stringify(text)}`);
}
