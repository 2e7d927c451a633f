import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Activation, ActiveMount } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";

/** What is kept of an activation beside its mount points. */
export interface ActivationRecord {
  readonly namespace: string;
  readonly lease: string | undefined;
  readonly activation: Activation;
}

const recordName = "activation.json";

/**
 * The folder of one activation: a mount point for each mount, `<n>`, its type in `<n>-type`, and the
 * record when all are made. Numbers run from the last mount to the first, the order they are undone
 * in. A folder without a record is left over and goes.
 *
 * Not synced: it is in memory, and mounts end with the machine as well.
 */
export class ActivationFolder {
  readonly path: string;
  readonly id: number;

  constructor(parent: string, id: number) {
    this.id = id;
    this.path = join(parent, String(id));
  }

  async create(): Promise<void> {
    await mkdir(this.path, { mode: 0o700 });
  }

  /** `left` counts this mount and those to come. The point itself is not made. */
  async addPoint(left: number, type: string): Promise<string> {
    await writeFile(join(this.path, `${left}-type`), type, { mode: 0o600 });
    return join(this.path, String(left));
  }

  async writeRecord({ namespace, lease, activation }: ActivationRecord): Promise<void> {
    const active = activation.active.map((mount) => ({
      ...mount,
      mountedAt: String(mount.mountedAt),
    }));
    const text = JSON.stringify({ namespace, lease, activation: { ...activation, active } });
    const unfinished = join(this.path, `.${recordName}`);
    await writeFile(unfinished, text, { mode: 0o600 });
    await rename(unfinished, join(this.path, recordName));
  }

  /** Undefined where there is none, or one that was not written here. */
  async readRecord(): Promise<ActivationRecord | undefined> {
    try {
      return parseRecord(JSON.parse(await readFile(join(this.path, recordName), "utf8")));
    } catch (error) {
      if (isErrno(error, "ENOENT") || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  /** What was mounted under the folder is garbage from now on. */
  async removeRecord(): Promise<void> {
    await rm(join(this.path, recordName), { force: true });
  }

  /** Points that may be mounted, the last made first. */
  async points(): Promise<readonly { readonly path: string; readonly type: string }[]> {
    const numbers = (await readdir(this.path))
      .filter((name) => /^\d+-type$/.test(name))
      .map((name) => Number.parseInt(name, 10))
      .toSorted((a, b) => a - b);
    return Promise.all(
      numbers.map(async (number) => ({
        path: join(this.path, String(number)),
        type: await readFile(join(this.path, `${number}-type`), "utf8"),
      })),
    );
  }

  /** Never recursive: what is still mounted would be emptied. Throws where something is. */
  async remove(): Promise<void> {
    for (const { path } of await this.points()) {
      await rmdir(path).catch((error: unknown) => {
        if (!isErrno(error, "ENOENT")) throw error;
      });
      await rm(`${path}-type`);
    }
    await this.removeRecord();
    await rm(join(this.path, `.${recordName}`), { force: true });
    await rmdir(this.path);
  }
}

export async function listFolders(parent: string): Promise<readonly ActivationFolder[]> {
  return (await readdir(parent))
    .filter((name) => /^\d{1,15}$/.test(name))
    .map((name) => new ActivationFolder(parent, Number(name)));
}

type Fields = Readonly<Record<string, unknown>>;

function parseRecord(value: unknown): ActivationRecord | undefined {
  if (!isFields(value) || typeof value["namespace"] !== "string") return undefined;
  const { namespace, lease, activation } = value;
  if (!isFields(activation) || typeof activation["name"] !== "string") return undefined;
  const { name, active, system, labels } = activation;
  if (!Array.isArray(active) || !Array.isArray(system) || !isStrings(labels)) return undefined;
  const mounted = active.map(parseActive);
  const left = system.map(parseMount);
  if (!isWhole(mounted) || !isWhole(left)) return undefined;
  return {
    namespace,
    lease: typeof lease === "string" ? lease : undefined,
    activation: { name, active: mounted, system: left, labels },
  };
}

function parseActive(value: unknown): ActiveMount | undefined {
  const mount = parseMount(value);
  if (!mount || !isFields(value)) return undefined;
  const { mountedAt, mountPoint, data } = value;
  if (typeof mountedAt !== "string" || !/^\d+$/.test(mountedAt)) return undefined;
  if (typeof mountPoint !== "string" || !isStrings(data)) return undefined;
  return { ...mount, mountedAt: BigInt(mountedAt), mountPoint, data };
}

function parseMount(value: unknown): Mount | undefined {
  if (!isFields(value)) return undefined;
  const { type, source, target, options } = value;
  if (typeof type !== "string" || typeof source !== "string" || typeof target !== "string") {
    return undefined;
  }
  if (!Array.isArray(options) || !options.every((option) => typeof option === "string")) {
    return undefined;
  }
  return { type, source, target, options };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStrings(value: unknown): value is Labels {
  return isFields(value) && Object.values(value).every((entry) => typeof entry === "string");
}

function isWhole<T>(list: readonly (T | undefined)[]): list is readonly T[] {
  return list.every((entry) => entry !== undefined);
}
