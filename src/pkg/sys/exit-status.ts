import type { ExitStatus } from "#pkg/sys/syscall.ts";

/** Takes apart the status word of wait(2). Only meaningful for a process that has ended. */
export function parseWaitStatus(word: number): ExitStatus {
  const signal = word & 0x7f;
  return signal === 0 ? { code: (word >> 8) & 0xff } : { signal };
}

/** The number clients see: the code, or 128 and the signal's number. */
export function exitStatus32(status: ExitStatus): number {
  return status.signal === undefined ? status.code : 128 + status.signal;
}
