import { CodedError } from "#pkg/errors.ts";
import { isSyscallError, SyscallError } from "#pkg/sys/errno.ts";
import type { ExitStatus, ReapedProcess, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * - `known`: only processes that were asked for are waited for, so Node's own `child_process` keeps
 *   working beside it. The end of one that nobody asked for yet stays in the kernel, as a zombie.
 * - `all`: every child is collected at once, orphans of a subreaper among them. `child_process`
 *   would lose its exits. What nobody asked for yet is kept in a table, bounded by number and age.
 */
export type ReaperMode = "known" | "all";

export interface ReaperOptions {
  readonly sys: Pick<Syscalls, "waitpid" | "kill">;
  readonly mode: ReaperMode;
  /** Default 4096; the oldest goes first. */
  readonly earlyExitsMax?: number;
  /** Default ten minutes. */
  readonly earlyExitAgeMsMax?: number;
  /**
   * Calls back whenever children may have ended; returns what unsubscribes. Default: SIGCHLD of
   * this process.
   */
  readonly onChildSignal?: (listener: () => void) => () => void;
  /** Milliseconds, never going back. */
  readonly now?: () => number;
}

export interface WaitOptions {
  /** Ends the wait, not the process. */
  readonly signal?: AbortSignal;
  /**
   * A `mark()` taken before the process can have existed. Only for a pid learned from elsewhere (a
   * pid file) in mode `all`: without it an older process with the same number, already collected,
   * may be taken for it.
   */
  readonly after?: number;
}

interface Waiter {
  resolve(status: ExitStatus): void;
  reject(reason: unknown): void;
}

interface EarlyExit {
  readonly status: ExitStatus;
  readonly mark: number;
  readonly atMs: number;
}

/**
 * Two processes of one number cannot both have ended within one turn, so a turn is bounded only
 * against fork bombs.
 */
const reapsPerTurnMax = 4096;
const vanishedCheckMs = 10_000;

function subscribeToChildSignal(listener: () => void): () => void {
  process.on("SIGCHLD", listener);
  return () => process.off("SIGCHLD", listener);
}

/**
 * Collects the exits of child processes.
 *
 * An exit is never lost by asking late: it waits in the kernel (`known`) or in the table (`all`).
 * Each is handed out once, to all who wait at that moment; keep the promise if it is needed again.
 * The event loop is kept alive only while somebody waits. One per process.
 */
export class Reaper implements Disposable {
  readonly #sys: ReaperOptions["sys"];
  readonly #mode: ReaperMode;
  readonly #earlyExitsMax: number;
  readonly #earlyExitAgeMsMax: number;
  readonly #now: () => number;
  readonly #unsubscribe: () => void;
  readonly #waiters = new Map<number, Set<Waiter>>();
  /** By pid, oldest first. */
  readonly #early = new Map<number, EarlyExit>();
  #mark = 0;
  #timer: NodeJS.Timeout | undefined;
  #nextTurn: NodeJS.Immediate | undefined;
  #closed = false;

  constructor(options: ReaperOptions) {
    this.#sys = options.sys;
    this.#mode = options.mode;
    this.#earlyExitsMax = options.earlyExitsMax ?? 4096;
    this.#earlyExitAgeMsMax = options.earlyExitAgeMsMax ?? 600_000;
    this.#now = options.now ?? (() => performance.now());
    const subscribe = options.onChildSignal ?? subscribeToChildSignal;
    this.#unsubscribe = subscribe(() => this.#onChildSignal());
    // Children may have ended before there was a handler (a supervisor replaced in place).
    this.#onChildSignal();
  }

  /**
   * How the process ended, once it has.
   *
   * Rejects with `EINVAL` for what is no pid, with `ECHILD` when it is no child of ours (and, in
   * mode `all`, does not run: one that does may still be re-parented to us), with the signal's
   * reason when that ends first, with `canceled` when the reaper is closed.
   */
  wait(pid: number, { signal, after = -1 }: WaitOptions = {}): Promise<ExitStatus> {
    const { promise, resolve, reject } = Promise.withResolvers<ExitStatus>();
    if (this.#closed) {
      reject(closedError());
      return promise;
    }
    // Zero and below mean "any child" to the kernel, and pids come from files.
    if (!Number.isSafeInteger(pid) || pid <= 0) {
      reject(new SyscallError("EINVAL", "waitpid"));
      return promise;
    }
    if (signal?.aborted === true) {
      // -- the reason is whatever the caller aborted with
      reject(signal.reason as Error);
      return promise;
    }
    try {
      const status = this.#collect(pid, after);
      if (status !== undefined) {
        this.#settle(pid, status);
        resolve(status);
        return promise;
      }
    } catch (error) {
      reject(error as Error); // -- a SyscallError as thrown
      return promise;
    }
    this.#register(pid, { resolve, reject }, signal);
    return promise;
  }

  /** A point in time for `WaitOptions.after`. */
  mark(): number {
    return this.#mark;
  }

  /** Forgets early exits, and rejects who waits with `canceled`. Children are left alone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsubscribe();
    clearImmediate(this.#nextTurn);
    this.#early.clear();
    for (const pid of this.#waiters.keys()) this.#refuse(pid, closedError());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #register(pid: number, waiter: Waiter, signal: AbortSignal | undefined): void {
    const onAbort = (): void => {
      this.#waiters.get(pid)?.delete(entry);
      if (this.#waiters.get(pid)?.size === 0) this.#forget(pid);
      waiter.reject(signal?.reason);
    };
    const entry: Waiter = {
      resolve(status) {
        signal?.removeEventListener("abort", onAbort);
        waiter.resolve(status);
      },
      reject(reason) {
        signal?.removeEventListener("abort", onAbort);
        waiter.reject(reason);
      },
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    const waiters = this.#waiters.get(pid);
    if (waiters === undefined) this.#waiters.set(pid, new Set([entry]));
    else waiters.add(entry);
    // SIGCHLD's own handle does not keep the loop alive. The period finds what never became a child
    // of ours.
    this.#timer ??= setInterval(() => this.#rejectVanished(), vanishedCheckMs);
  }

  /** Undefined while it runs. */
  #collect(pid: number, after: number): ExitStatus | undefined {
    if (this.#mode === "all") this.#reapAll();
    try {
      const reaped = this.#sys.waitpid(pid);
      // It is a child that runs, or has ended just now: an earlier exit was that of another with
      // its number.
      this.#early.delete(pid);
      return reaped?.status;
    } catch (error) {
      if (this.#mode === "known" || !isSyscallError(error, "ECHILD")) throw error;
      const early = this.#early.get(pid);
      if (early !== undefined && early.mark > after) {
        this.#early.delete(pid);
        return early.status;
      }
      if (!this.#exists(pid)) throw error;
      return undefined;
    }
  }

  #onChildSignal(): void {
    if (this.#closed) return;
    if (this.#mode === "all") this.#reapAll();
    else for (const pid of this.#waiters.keys()) this.#reapKnown(pid);
  }

  #reapKnown(pid: number): void {
    try {
      const reaped = this.#sys.waitpid(pid);
      if (reaped !== undefined) this.#settle(pid, reaped.status);
    } catch (error) {
      this.#refuse(pid, error);
    }
  }

  #reapAll(): void {
    for (let turn = 0; turn < reapsPerTurnMax; turn++) {
      const reaped = this.#reapAny();
      if (reaped === undefined) return;
      if (!this.#settle(reaped.pid, reaped.status)) this.#keep(reaped);
    }
    clearImmediate(this.#nextTurn);
    this.#nextTurn = setImmediate(() => this.#onChildSignal());
  }

  #reapAny(): ReapedProcess | undefined {
    try {
      return this.#sys.waitpid(-1);
    } catch (error) {
      if (isSyscallError(error, "ECHILD")) return undefined;
      throw error;
    }
  }

  #keep({ pid, status }: ReapedProcess): void {
    const atMs = this.#now();
    this.#early.delete(pid);
    this.#early.set(pid, { status, mark: ++this.#mark, atMs });
    for (const [oldest, exit] of this.#early) {
      const tooOld = atMs - exit.atMs > this.#earlyExitAgeMsMax;
      if (!tooOld && this.#early.size <= this.#earlyExitsMax) return;
      this.#early.delete(oldest);
    }
  }

  /** False when nobody waits. */
  #settle(pid: number, status: ExitStatus): boolean {
    const waiters = this.#waiters.get(pid);
    this.#forget(pid);
    for (const waiter of waiters ?? []) waiter.resolve(status);
    return waiters !== undefined;
  }

  #refuse(pid: number, reason: unknown): void {
    const waiters = this.#waiters.get(pid);
    this.#forget(pid);
    for (const waiter of waiters ?? []) waiter.reject(reason);
  }

  #forget(pid: number): void {
    this.#waiters.delete(pid);
    if (this.#waiters.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #rejectVanished(): void {
    this.#onChildSignal();
    for (const pid of this.#waiters.keys()) {
      if (!this.#exists(pid)) this.#refuse(pid, new SyscallError("ECHILD", "waitpid"));
    }
  }

  #exists(pid: number): boolean {
    try {
      this.#sys.kill(pid, 0);
      return true;
    } catch (error) {
      return !isSyscallError(error, "ESRCH");
    }
  }
}

function closedError(): CodedError {
  return new CodedError("canceled", "reaper is closed");
}
