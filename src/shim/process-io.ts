import type { EndRole } from "#core/runtime/handover.ts";
import type { Logger } from "#pkg/log.ts";
import type { WindowSize } from "#pkg/sys/syscall.ts";

/**
 * How long a deletion waits for output: somebody else in the container may hold it open for ever.
 */
const drainTimeoutMs = 10_000;

/** A descriptor that a successor of this process would need to go on. */
export interface IoEnd {
  readonly role: EndRole;
  readonly fd: number;
}

/**
 * The streams of one process, from before the runtime makes it until it is deleted.
 *
 * Made first (which may fail with nothing left behind), then `childStdio` goes to the runtime, then
 * `start` begins to copy. `close` may come at any time, once or twice.
 */
export interface ProcessIo {
  /**
   * The container's own ends; undefined for a terminal, whose process gets its ends from the
   * runtime.
   */
  readonly childStdio: readonly [number, number, number] | undefined;
  readonly consoleSocket: string | undefined;
  /**
   * Call when the runtime has made the process: drops the container's ends here and begins to copy.
   */
  start(): Promise<void>;
  /** The client has said that no more input comes. */
  closeStdin(): void;
  /** Does nothing without a terminal. */
  resize(size: WindowSize): void;
  /**
   * The process has ended. A terminal then ends with what is already in it, whoever else has it
   * open.
   */
  processExited(): void;
  /** True when all output has been copied, false when it took longer than that. */
  drain(timeoutMs: number): Promise<boolean>;
  /**
   * The ends in use now, none of them closed already. They stay this object's own. Each change is
   * told, to the `onChange` that the object was made with, in the turn in which it happens.
   */
  ends(): readonly IoEnd[];
  /** Lets go of everything, the client's FIFOs among it: that is what frees a client. */
  close(): Promise<void>;
}

/** True when the promise settles in time. */
export async function settlesWithin(
  promise: Promise<unknown>,
  timeoutMs: number,
): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  try {
    return await Promise.race([promise.then(() => true as const), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for the output of a process that has ended, for as long as upstream does. */
export async function drain(
  process: { readonly id: string; readonly io: ProcessIo | undefined },
  logger: Logger,
): Promise<void> {
  if (process.io === undefined || (await process.io.drain(drainTimeoutMs))) return;
  logger.error("failed to drain process io", { id: process.id });
}
