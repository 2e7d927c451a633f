import { join } from "node:path";

/** What an exec has in the bundle. */
export interface ExecFiles {
  /** The process, for the runtime. From before the exec is recorded until it is as started. */
  readonly process: string;
  /**
   * From before the runtime is called until the exec is recorded as started: a start that was cut
   * short is known by it.
   */
  readonly starting: string;
  readonly log: string;
  /** Hidden too: an exec may be called `init`, and the container's own is `init.pid`. */
  readonly pid: string;
}

const processSuffix = ".process.json";
const startingSuffix = ".starting";

export function execFiles(bundle: string, execId: string): ExecFiles {
  return {
    process: join(bundle, `.${execId}${processSuffix}`),
    starting: join(bundle, `.${execId}${startingSuffix}`),
    log: join(bundle, `.${execId}.log.json`),
    pid: join(bundle, `.${execId}.pid`),
  };
}

/** The exec whose `process` or `starting` file has that name; undefined for any other. */
export function execIdOfFile(name: string): string | undefined {
  if (!name.startsWith(".")) return undefined;
  const suffix = [processSuffix, startingSuffix].find((known) => name.endsWith(known));
  return suffix && name.slice(1, -suffix.length);
}
