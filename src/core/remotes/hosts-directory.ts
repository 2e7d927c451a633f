import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type HostConfig, type HostsFile, parseHostsFile } from "#core/remotes/hosts-file.ts";
import { allCapabilities } from "#core/remotes/registry-host.ts";
import { isErrno, wrap } from "#pkg/errors.ts";

/** What was found on disk for a host. */
export interface HostDirectory extends HostsFile {
  readonly directory: string;
  /** What the hosts are from: a `hosts.toml`, or the certificates of Docker's layout. */
  readonly from: "hosts.toml" | "certificates";
}

const fileBytesMax = 1 << 20;

/**
 * The configuration of a host: the first that is there of `h_port_`, `h:port` and `_default` in the
 * first of the roots that has any of them. Read anew each time. Undefined where there is none.
 */
export async function loadHostDirectory(
  roots: readonly string[],
  host: string,
): Promise<HostDirectory | undefined> {
  for (const root of roots) {
    for (const name of directoryNames(host)) {
      const directory = join(root, name);
      if (await exists(directory)) return loadDirectory(directory);
    }
  }
  return undefined;
}

/** A colon cannot be part of a file's name everywhere. */
export function directoryNames(host: string): readonly string[] {
  const colon = host.lastIndexOf(":");
  const plain = colon > 0 ? [`${host.slice(0, colon)}_${host.slice(colon + 1)}_`] : [];
  return [...plain, host, "_default"];
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw wrap("registry host configuration", error);
  }
}

async function loadDirectory(directory: string): Promise<HostDirectory> {
  const file = join(directory, "hosts.toml");
  const text = await readHostsFile(file);
  if (text === undefined || text === "") {
    const host = await loadCertificates(directory);
    return { directory, from: "certificates", hosts: [host], unknownKeys: [] };
  }
  return { directory, from: "hosts.toml", ...parseHostsFile(text, file, directory) };
}

async function readHostsFile(file: string): Promise<string | undefined> {
  try {
    const { size } = await stat(file);
    if (size > fileBytesMax) {
      throw new Error(`${file} has ${size} bytes, at most ${fileBytesMax}`);
    }
    return await readFile(file, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw wrap("registry host configuration", error);
  }
}

/** Docker's layout: `*.crt` are authorities, `*.cert` with `*.key` certificates of the client. */
async function loadCertificates(directory: string): Promise<HostConfig> {
  const names = (await listNames(directory)).toSorted();
  const caFiles = names.filter((name) => name.endsWith(".crt"));
  const clientPairs = names
    .filter((name) => name.endsWith(".cert"))
    .map((cert) => {
      const key = `${cert.slice(0, -".cert".length)}.key`;
      const pair = { cert: join(directory, cert) };
      return names.includes(key) ? { ...pair, key: join(directory, key) } : pair;
    });
  return {
    server: undefined,
    capabilities: allCapabilities,
    caFiles: caFiles.length > 0 ? caFiles.map((name) => join(directory, name)) : undefined,
    clientPairs: clientPairs.length > 0 ? clientPairs : undefined,
    skipVerify: undefined,
    dialTimeoutMs: undefined,
    headers: {},
  };
}

async function listNames(directory: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    // A plain file of that name: there is nothing in it.
    if (isErrno(error, "ENOTDIR", "ENOENT")) return [];
    throw wrap("registry host configuration", error);
  }
}
