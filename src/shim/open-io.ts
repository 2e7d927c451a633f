import type { Context } from "#pkg/context.ts";
import type { Logger } from "#pkg/log.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { LoggerIo } from "./logger-io.ts";
import { PipeIo } from "./pipe-io.ts";
import { messageOf } from "#pkg/errors.ts";
import type { ProcessRecord } from "./task-record.ts";
import type { ShimServices } from "./shim-services.ts";
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

/**
 * The streams of a process that an earlier supervisor has started, as far as they can be had again.
 *
 * The container's ends of its pipes are opened anew through /proc. A terminal's master has died
 * with the one who held it, and what was written between the two supervisors met a pipe without a
 * reader.
 */
export function reopenIo(
  stdio: Stdio,
  record: ProcessRecord,
  { sys, logger }: Pick<ShimServices, "sys" | "logger">,
): ProcessIo {
  try {
    const target = outputTarget(stdio);
    const copied = !stdio.terminal && target.kind !== "binary";
    return PipeIo.reopen(stdio, target, copied ? record : undefined, { sys, logger });
  } catch (error) {
    logger.warn("streams of a process cannot be had again", { error: messageOf(error) });
    return PipeIo.reopen(stdio, { kind: "none" }, undefined, { sys, logger });
  }
}
