import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "#cmd/containerd/config/config.ts";
import { treeUsage } from "#pkg/archive/tree-walk.ts";
import { isErrno } from "#pkg/errors.ts";
import { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";
import { number, text } from "#pkg/sqlite/row.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import { ingestName } from "#plugins/content/local/ingest.ts";

interface OnDisk {
  readonly what: string;
  readonly bytes: number;
}

/** What the local content store and the snapshotters of this project take on the disk, looked at from outside. */
export class BackendSizes {
  readonly #config: Config;
  readonly #snapshotters = new Map<string, ReadonlyMap<string, number> | undefined>();

  constructor(config: Config) {
    this.#config = config;
  }

  /** Of an ingest or a snapshot, by its backend's key; undefined for other kinds and where another process has it. */
  async of(kind: string, backendKey: string): Promise<number | undefined> {
    if (kind === "ingest") return fileSize(join(this.#ingests, ingestName(backendKey), "data"));
    if (!kind.startsWith("snapshot/")) return undefined;
    return this.#snapshots(kind.slice("snapshot/".length))?.get(backendKey) ?? undefined;
  }

  /** All of it, recorded or not. */
  async onDisk(): Promise<readonly OnDisk[]> {
    const content = [
      ["content", join(this.#content, "blobs")],
      ["ingests", this.#ingests],
    ] as const;
    const rows = content.map(([what, path]): OnDisk => ({ what, bytes: usedBelow(path) }));
    for (const name of await this.#ownSnapshotters()) {
      const all = join(this.#rootOf(name), "snapshots");
      const each = (await readdir(all)).map((id) => usedBelow(join(all, id)));
      rows.push({ what: name, bytes: each.reduce((sum, bytes) => sum + bytes, 0) });
    }
    return rows;
  }

  get #content(): string {
    return join(this.#config.root, "io.containerd.content.v1.content");
  }

  get #ingests(): string {
    return join(this.#content, "ingest");
  }

  #rootOf(snapshotter: string): string {
    const uri = `io.containerd.snapshotter.v1.${snapshotter}`;
    const given = this.#config.plugins[uri]?.["root_path"];
    return typeof given === "string" && given !== "" ? given : join(this.#config.root, uri);
  }

  async #ownSnapshotters(): Promise<readonly string[]> {
    const prefix = "io.containerd.snapshotter.v1.";
    const names = new Set(
      [...(await readdir(this.#config.root)), ...Object.keys(this.#config.plugins)]
        .filter((name) => name.startsWith(prefix))
        .map((name) => name.slice(prefix.length)),
    );
    return [...names].filter((name) => existsSync(this.#databaseOf(name))).sort();
  }

  #databaseOf(snapshotter: string): string {
    return join(this.#rootOf(snapshotter), "metadata.sqlite");
  }

  /** Committed ones as they were counted then; those that are written to are looked at. */
  #snapshots(snapshotter: string): ReadonlyMap<string, number> | undefined {
    if (this.#snapshotters.has(snapshotter)) return this.#snapshotters.get(snapshotter);
    const path = this.#databaseOf(snapshotter);
    const sizes = existsSync(path) ? this.#readSnapshots(path, snapshotter) : undefined;
    this.#snapshotters.set(snapshotter, sizes);
    return sizes;
  }

  #readSnapshots(path: string, snapshotter: string): ReadonlyMap<string, number> {
    using db = new ReadSnapshot(path);
    const rows = db.rows("SELECT id, name, kind, size_bytes FROM snapshots");
    return new Map(
      rows.map((row) => {
        const directory = join(this.#rootOf(snapshotter), "snapshots", `${number(row, "id")}`);
        const isActive = text(row, "kind") === "active";
        return [text(row, "name"), isActive ? usedBelow(directory) : number(row, "size_bytes")];
      }),
    );
  }
}

async function fileSize(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return 0; // -- gone since the database was read
    throw error;
  }
}

const triesMax = 3;

/** 0 for what is not there, or where something goes each time while it is looked at. */
function usedBelow(path: string): number {
  for (let tries = 1; tries <= triesMax; tries++) {
    const used = tryUsedBelow(path);
    if (used !== undefined) return used;
  }
  return 0;
}

function tryUsedBelow(path: string): number | undefined {
  using stack = new DisposableStack();
  try {
    const fd = linux.openat(AT.FDCWD, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    stack.defer(() => linux.close(fd));
    return treeUsage(linux, fd).sizeBytes;
  } catch (error) {
    if (isSyscallError(error) && error.errno === "ENOENT") return undefined;
    throw error;
  }
}
