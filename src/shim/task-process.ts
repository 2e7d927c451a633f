import type { Context } from "#pkg/context.ts";
import type { IoEnd, ProcessIo } from "./process-io.ts";
import {
  type Action,
  assertAllowed,
  type Exit,
  exitOf,
  type ProcessEvent,
  type ProcessState,
  transition,
} from "./process-state.ts";
import type { Stdio } from "./stdio.ts";

/**
 * One process of a container, its first or an exec: its state, its streams, those who wait for its
 * end.
 *
 * While it is held (an operation on it is under way) a reported exit is kept back, so that what the
 * operation announces comes before the exit.
 */
export class TaskProcess {
  readonly id: string;
  readonly stdio: Stdio;
  io: ProcessIo | undefined;
  readonly #ended = Promise.withResolvers<Exit | undefined>();
  readonly #onExit: (exit: Exit) => void;
  #state: ProcessState = { status: "created", pid: 0 };
  #holds = 0;
  #heldBack: Exit | undefined;

  constructor(id: string, stdio: Stdio, onExit: (exit: Exit) => void) {
    this.id = id;
    this.stdio = stdio;
    this.#onExit = onExit;
  }

  get state(): ProcessState {
    return this.#state;
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

  /** Gives the pid that the runtime has made; the process is still to be started. */
  created(pid: number): void {
    this.#state = { status: "created", pid };
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

  /** Lets go those who wait for a process that could not be started. */
  failed(): void {
    this.#ended.resolve(undefined);
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

  /** Descriptors for a successor, see `ProcessIo`. */
  ioEnds(): IoEnd[] {
    return this.io?.ends() ?? [];
  }

  #deliver(): void {
    if (this.#holds > 0 || this.#heldBack === undefined) return;
    const exit = this.#heldBack;
    this.#heldBack = undefined;
    this.#onExit(exit);
  }
}
