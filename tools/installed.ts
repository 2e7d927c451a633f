// Exits 0 when node_modules holds what package-lock.json asks for. Imports nothing that has to be installed.
import { readFileSync } from "node:fs";

interface LockEntry {
  readonly version?: string;
  readonly optional?: boolean;
}

// -- npm's own files, whose shape it keeps
const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as {
  packages: Record<string, LockEntry>;
};
for (const [path, entry] of Object.entries(lock.packages)) {
  if (path === "") continue;
  const installed = installedVersion(path);
  if (installed === entry.version || (installed === undefined && entry.optional)) continue;
  console.log(`${path}: ${installed ?? "nothing"} instead of ${entry.version}`);
  process.exitCode = 1;
}

function installedVersion(path: string): string | undefined {
  try {
    // -- as above
    const manifest = JSON.parse(readFileSync(`${path}/package.json`, "utf8")) as LockEntry;
    return manifest.version;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
