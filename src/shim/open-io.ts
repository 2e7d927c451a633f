import type { Context } from "#pkg/context.ts";
import type { Logger } from "#pkg/log.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { LoggerIo } from "./logger-io.ts";
import { PipeIo } from "./pipe-io.ts";
import { messageOf } from "#pkg/errors.ts";
import type { InheritedEnds } from "./inherited-ends.ts";
import type { ProcessRecord } from "./task-record.ts";
import type { ProcessIo } from "./process-io.ts";
import type { Children } from "./children.ts";
import { outputTarget, type Stdio } from "./stdio.ts";
import { TerminalIo } from "./terminal-io.ts";

export interface IoOptions {
  readonly sys: Syscalls;
  readonly logger: Logger;
  readonly ctx: Context;
  readonly children: Children;
  /** What a logging program is told of whose output it gets. */
  readonly containerId: string;
  readonly namespace: string;
  readonly ioUid: number;
  readonly ioGid: number;
  /** See `ProcessIo.ends`. */
  readonly onChange: () => void;
}

export type ResumeOptions = Pick<IoOptions, "sys" | "logger" | "ctx" | "onChange">;

/**
 * The streams that a client has asked for, ready for the runtime. On a failure nothing is left
 * open.
 */
export async function openIo(stdio: Stdio, options: IoOptions): Promise<ProcessIo> {
  const target = outputTarget(stdio);
  if (stdio.terminal) return await TerminalIo.open(stdio, target, options);
  if (target.kind === "binary") return await LoggerIo.open(target, options);
  return await PipeIo.open(stdio, target, options);
}

/**
 * The streams of a process that an earlier supervisor has started.
 *
 * All go on where the daemon has kept them. Else, as far as they can be had again: the process's
 * ends of its pipes are opened anew through /proc, and what was written between the two supervisors
 * met a pipe without a reader; a terminal was hung up.
 */
export function resumeIo(
  stdio: Stdio,
  from: { readonly record: ProcessRecord; readonly inherited: InheritedEnds | undefined },
  options: ResumeOptions,
): ProcessIo | undefined {
  using inherited = from.inherited;
  try {
    const target = outputTarget(stdio);
    if (stdio.terminal) return TerminalIo.resume(stdio, target, inherited, options);
    if (target.kind === "binary") return inherited && LoggerIo.resume(inherited, options);
    return PipeIo.resume(stdio, target, { record: from.record, inherited }, options);
  } catch (error) {
    options.logger.warn("streams of a process cannot be had again", { error: messageOf(error) });
    return undefined;
  }
}
