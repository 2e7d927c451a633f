import { join } from "node:path";
import { projectDir } from "#cmd/containerd/project.ts";
import type { LogLevel } from "#pkg/log.ts";
import type { LogWriter } from "#pkg/log-writer.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { type SpawnProcess, spawnProcess } from "#pkg/sys/spawn.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { product } from "#pkg/version.ts";

/**
 * Ours alone: nobody else speaks for the daemon, fails as it is told to, or writes into its cache.
 */
const notInherited = ["NOTIFY_SOCKET", "CONTAINERD_FAILPOINTS", "NODE_COMPILE_CACHE"] as const;

/** What plugins need of the machine and the process, and must not reach for themselves. */
export class Host {
  readonly sys: Syscalls = linux;
  readonly spawn: SpawnProcess = spawnProcess;
  readonly containerdBinary: string = join(projectDir, "bin/containerd");
  readonly supervisorBinary: string = join(projectDir, "bin/containerd-shim-runc-v2");
  readonly version: string = product.version;
  readonly revision: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where shims' own lines go as they come. */
  readonly logSink: (chunk: Uint8Array) => void;
  readonly #log: LogWriter;
  #reaper: Reaper | undefined;

  constructor(options: {
    readonly env: NodeJS.ProcessEnv;
    readonly revision: string;
    readonly log: LogWriter;
    readonly logSink: (chunk: Uint8Array) => void;
  }) {
    this.revision = options.revision;
    this.logSink = options.logSink;
    this.#log = options.log;
    const inherited = Object.entries(options.env).flatMap(([name, value]): [string, string][] =>
      value === undefined || notInherited.some((own) => own === name) ? [] : [[name, value]],
    );
    this.env = Object.fromEntries(inherited);
  }

  get logLevel(): LogLevel {
    return this.#log.level;
  }

  /** The process's one reaper; made when first asked for, since it listens to a signal. */
  get reaper(): Reaper {
    this.#reaper ??= new Reaper({ sys: this.sys, mode: "known" });
    return this.#reaper;
  }
}
