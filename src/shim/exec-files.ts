import { join } from "node:path";

/** What the start of an exec has in the bundle. */
export interface ExecFiles {
  /**
   * The process, for the runtime. From before the runtime is called until the exec is recorded, so
   * that one which was cut short is known.
   */
  readonly process: string;
  readonly log: string;
  /** Hidden too: an exec may be called `init`, and the container's own is `init.pid`. */
  readonly pid: string;
}

const markerSuffix = ".process.json";

export function execFiles(bundle: string, execId: string): ExecFiles {
  return {
    process: join(bundle, `.${execId}${markerSuffix}`),
    log: join(bundle, `.${execId}.log.json`),
    pid: join(bundle, `.${execId}.pid`),
  };
}

/** The exec whose `process` file has that name; undefined for any other. */
export function execIdOfMarker(name: string): string | undefined {
  if (!name.startsWith(".") || !name.endsWith(markerSuffix)) return undefined;
  return name.slice(1, -markerSuffix.length);
}
