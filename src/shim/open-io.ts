import type { Logger } from "#pkg/log.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { LoggerIo } from "./logger-io.ts";
import { PipeIo } from "./pipe-io.ts";
import type { ProcessIo } from "./process-io.ts";
import type { Children } from "./children.ts";
import { outputTarget, type Stdio } from "./stdio.ts";
import { TerminalIo } from "./terminal-io.ts";

export interface IoOptions {
  readonly sys: Syscalls;
  readonly logger: Logger;
  readonly children: Children;
  /** What a logging program is told of whose output it gets. */
  readonly containerId: string;
  readonly namespace: string;
  readonly ioUid: number;
  readonly ioGid: number;
}

/**
 * The streams that a client has asked for, ready for the runtime. On a failure nothing is left
 * open.
 */
export async function openIo(stdio: Stdio, options: IoOptions): Promise<ProcessIo> {
  const target = outputTarget(stdio);
  if (target.kind === "binary") return await LoggerIo.open(stdio, target, options);
  if (stdio.terminal) return await TerminalIo.open(stdio, target, options);
  return await PipeIo.open(stdio, target, options);
}
