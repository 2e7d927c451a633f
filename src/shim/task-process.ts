import type { ProcessName } from "#core/runtime/handover.ts";
import type { Context } from "#pkg/context.ts";
import type { HandedOver } from "./handover-server.ts";
import type { IoEnd, ProcessIo } from "./process-io.ts";
import {
  type Action,
  assertAllowed,
  type Exit,
  exitOf,
  pidOf,
  type ProcessEvent,
  type ProcessState,
  transition,
} from "./process-state.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import type { Stdio } from "./stdio.ts";
import type { ProcessRecord } from "./task-record.ts";

export interface ProcessHooks {
  /** Its end, once. */
  readonly exit: (exit: Exit) => void;
  /** What a successor would need of it is not what it was. */
  readonly endsChanged: (process: TaskProcess) => void;
}

/**
 * One process of a container, its first or an exec: its state, its streams, those who wait for its
 * end.
 *
 * While it is held (an operation on it is under way) a reported exit is kept back, so that what the
 * operation announces comes before the exit.
 */
export class TaskProcess implements HandedOver {
  readonly name: ProcessName;
  readonly stdio: Stdio;
  io: ProcessIo | undefined;
  /** Of a process whose end a successor may have to ask for. */
  #pidfd: number | undefined;
  #closePidfd: () => void = () => {};
  #ended = Promise.withResolvers<Exit | undefined>();
  readonly #on: ProcessHooks;
  #state: ProcessState = { status: "created", pid: 0 };
  #record: ProcessRecord | undefined;
  #holds = 0;
  #heldBack: Exit | undefined;

  constructor(name: ProcessName, stdio: Stdio, on: ProcessHooks) {
    this.name = name;
    this.stdio = stdio;
    this.#on = on;
  }

  /** The container's for its first process. */
  get id(): string {
    return this.name.execId === "" ? this.name.containerId : this.name.execId;
  }

  get state(): ProcessState {
    return this.#state;
  }

  /** 0 until it is known. */
  get pid(): number {
    return pidOf(this.#state);
  }

  get exit(): Exit | undefined {
    return exitOf(this.#state);
  }

  /** Throws upstream's error when the action makes no sense now. */
  assertAllowed(action: Action): void {
    assertAllowed(this.#state, action);
  }

  apply(event: ProcessEvent): void {
    this.#state = transition(this.#state, event);
    if (event.type === "exited") this.#ended.resolve(event.exit);
    if (event.type === "deleted") this.#ended.resolve(this.exit);
  }

  /** The runtime has made it; it is still to be started. */
  created(record: ProcessRecord): void {
    this.#record = record;
    this.#state = { status: "created", pid: record.pid };
  }

  /** An exec, which is made and started at once. */
  started(record: ProcessRecord): void {
    this.#record = record;
    this.apply({ type: "started", pid: record.pid });
  }

  /** An exec that an earlier supervisor has seen end. */
  takeOverEnded(record: ProcessRecord, exit: Exit): void {
    this.#record = record;
    this.apply({ type: "exited", exit });
  }

  /** By what a successor would know it; undefined until there is a process. */
  get record(): ProcessRecord | undefined {
    return this.#record;
  }

  hold(): Disposable {
    this.#holds += 1;
    let released = false;
    return {
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        this.#holds -= 1;
        this.#deliver();
      },
    };
  }

  /** The kernel has reported the exit. */
  reportExit(exit: Exit): void {
    this.#heldBack ??= exit;
    this.#deliver();
  }

  /** Lets go those who wait for a process that could not be started. It may be started again. */
  failed(): void {
    this.#ended.resolve(undefined);
    this.#ended = Promise.withResolvers<Exit | undefined>();
  }

  /** Undefined when the process never ran. Rejects when the context ends first. */
  async wait(ctx: Context): Promise<Exit | undefined> {
    ctx.throwIfEnded();
    const { promise: ended, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => {
      try {
        ctx.throwIfEnded();
      } catch (error) {
        reject(error);
      }
    };
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([this.#ended.promise, ended]);
    } finally {
      ctx.signal.removeEventListener("abort", onAbort);
    }
  }

  /** Takes it over until `releasePidfd`: by it a successor learns of an end that nobody saw. */
  keepPidfd(sys: Pick<Syscalls, "close">, pidfd: number): void {
    this.releasePidfd();
    this.#pidfd = pidfd;
    this.#closePidfd = () => sys.close(pidfd);
  }

  /** To this process and no other, where a pidfd says which: its number may have been given again. */
  signal(sys: Pick<Syscalls, "kill" | "pidfdSendSignal">, signal: number): void {
    if (this.#pidfd === undefined) sys.kill(this.pid, signal);
    else sys.pidfdSendSignal(this.#pidfd, signal);
  }

  /** Once the end is recorded, or there is no process. Twice is once. */
  releasePidfd(): void {
    if (this.#pidfd === undefined) return;
    this.#pidfd = undefined;
    this.#closePidfd();
    this.changed();
  }

  get pidfd(): number | undefined {
    return this.#pidfd;
  }

  ends(): readonly IoEnd[] {
    // Without a pid nobody could tell it from an older one of its name.
    if (this.pid === 0) return [];
    const ends = this.io?.ends() ?? [];
    return this.#pidfd === undefined ? ends : [{ role: "pidfd", fd: this.#pidfd }, ...ends];
  }

  /** Call when `ends` has changed. */
  changed(): void {
    this.#on.endsChanged(this);
  }

  #deliver(): void {
    if (this.#holds > 0 || this.#heldBack === undefined) return;
    const exit = this.#heldBack;
    this.#heldBack = undefined;
    this.#on.exit(exit);
  }
}
