import { constants } from "node:fs";
import { access, copyFile, mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { hostname as hostHostname } from "node:os";
import { dirname } from "node:path";
import type { DnsConfig, PodSandboxConfig } from "#cri/pod-sandbox-config.ts";
import {
  allSandboxes,
  type CriRoots,
  type SandboxPaths,
  sandboxPaths,
} from "#cri/podsandbox/sandbox-paths.ts";
import type { Unmount } from "#core/runtime/bundle.ts";
import { failedPrecondition, isErrno, wrap } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";
import { AT, FS_MAGIC, MS, O } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

export interface SandboxFilesOptions {
  readonly roots: CriRoots;
  readonly sys: Syscalls;
  readonly unmount: Unmount;
}

const shmBytes = 64 << 20;
const devShm = "/dev/shm";
/** Where the kernel is still giving up mounts. */
const removeTries = { maxRetries: 10, retryDelay: 50 };

/** The files of sandboxes: who and where a pod is, for its containers, and its shared memory. */
export class SandboxFiles {
  readonly #options: SandboxFilesOptions;

  constructor(options: SandboxFilesOptions) {
    this.#options = options;
  }

  pathsOf(id: string): SandboxPaths {
    return sandboxPaths(this.#options.roots, id);
  }

  /** Throws `failed-precondition` for a path that leads to no namespace. */
  async assertNetns(path: string): Promise<void> {
    if (path === "" || (await this.isNamespace(path))) return;
    throw failedPrecondition(`network namespace path ${quote(path)} is not a namespace`);
  }

  /** Asks the file system, and opens nothing: the path may be anything. */
  async isNamespace(path: string): Promise<boolean> {
    try {
      return (await statfs(path)).type === FS_MAGIC.NSFS;
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "EACCES", "ENAMETOOLONG")) return false;
      throw error;
    }
  }

  /** Directories first, of nothing that another attempt has left there. */
  async makeDirectories(id: string): Promise<void> {
    await this.remove(id);
    const { root, state } = this.pathsOf(id);
    for (const path of [root, state]) await mkdir(path, { recursive: true, mode: 0o755 });
  }

  /** Keeps the user namespace that a pod's network belongs to, so that the pod can be made in it. */
  async keepUserNamespace(id: string, netnsPath: string): Promise<void> {
    const { sys } = this.#options;
    const { userNamespace } = this.pathsOf(id);
    await mkdir(dirname(userNamespace), { recursive: true, mode: 0o755 });
    await writeFile(userNamespace, "", { flag: "wx" });
    using stack = new DisposableStack();
    try {
      const network = sys.openat(AT.FDCWD, netnsPath, O.RDONLY);
      stack.defer(() => sys.close(network));
      const owner = sys.openOwningUserNamespace(network);
      stack.defer(() => sys.close(owner));
      sys.mount(userNamespace, { source: `/proc/self/fd/${owner}`, flags: MS.BIND });
    } catch (error) {
      throw wrap(`failed to pin user namespace of ${quote(netnsPath)}`, error);
    }
  }

  async make(id: string, config: PodSandboxConfig): Promise<void> {
    const paths = this.pathsOf(id);
    const hostname = config.hostname === "" ? hostHostname() : config.hostname;
    await writeFile(paths.hostname, `${hostname}\n`, { mode: 0o644 });
    await copy("/etc/hosts", paths.hosts);
    if (config.dns) await writeFile(paths.resolvConf, resolvConf(config.dns), { mode: 0o644 });
    else await copy("/etc/resolv.conf", paths.resolvConf);
    if (config.security.ipc === "node") {
      await access(devShm, constants.F_OK).catch((error: unknown) => {
        throw wrap(`host ${quote(devShm)} is not available for host ipc`, error);
      });
      return;
    }
    await mkdir(paths.shm, { recursive: true, mode: 0o700 });
    try {
      this.#options.sys.mount(paths.shm, {
        source: "shm",
        fstype: "tmpfs",
        flags: MS.NOEXEC | MS.NOSUID | MS.NODEV,
        data: `mode=1777,size=${shmBytes}`,
      });
    } catch (error) {
      throw wrap("failed to mount sandbox shm", error);
    }
  }

  /** What a stopped pod holds beyond files. Nothing happens where that is gone. */
  async release(id: string): Promise<void> {
    await this.#options.unmount(this.pathsOf(id).shm);
  }

  async remove(id: string): Promise<void> {
    const { root, state } = this.pathsOf(id);
    // Never a recursive removal across a mount.
    await this.#options.unmount(state);
    for (const path of [root, state]) {
      await rm(path, { recursive: true, force: true, ...removeTries });
    }
  }

  /** Of all there are files of. */
  async ids(): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    for (const path of allSandboxes(this.#options.roots)) {
      for (const id of await names(path)) found.add(id);
    }
    return found;
  }
}

/** A line for each kind that there is. */
export function resolvConf({ servers, searches, options }: DnsConfig): string {
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}\n`] : []),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length > 0 ? [`options ${options.join(" ")}\n`] : []),
  ].join("");
}

async function copy(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
  } catch (error) {
    throw wrap(`failed to copy ${from} of the host`, error);
  }
}

async function names(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
