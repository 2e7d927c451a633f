import type { LaunchedProgram } from "#core/runtime/program.ts";
import { invalidArgument } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";

/**
 * How a supervisor that was started ahead is told which group it is to serve: it reads its standard
 * input to the end, a JSON list of the arguments it would have been started with. Nothing there
 * means that it is not needed, and so does the daemon's death.
 */
export function formatOrder(args: readonly string[]): Uint8Array {
  return Buffer.from(JSON.stringify(args));
}

/** Undefined for one that is not needed. */
export function parseOrder(text: string): readonly string[] | undefined {
  if (text === "") return undefined;
  let args: unknown;
  try {
    args = JSON.parse(text);
  } catch (error) {
    throw invalidArgument("standby: the order is no JSON", { cause: error });
  }
  if (!Array.isArray(args) || !args.every((arg) => typeof arg === "string")) {
    throw invalidArgument("standby: the order is no list of arguments");
  }
  return args;
}

export interface StandbyOptions {
  readonly launch: () => LaunchedProgram;
  /** Asked when one is about to be started: somebody may have started one for a group meanwhile. */
  readonly isWanted: () => boolean;
  /** A daemon that has just started has better things to do. */
  readonly delayMs: number;
  readonly logger: Logger;
}

/**
 * One supervisor that nobody uses yet: it has loaded all it needs, and waits in a read for its
 * order. Loading takes longer than all the rest of a container's start.
 */
export class Standby implements Disposable {
  readonly #options: StandbyOptions;
  #timer: NodeJS.Timeout | undefined;
  #waiting: LaunchedProgram | undefined;
  #isClosed = false;

  constructor(options: StandbyOptions) {
    this.#options = options;
  }

  /** Has one started after a while, where none waits and one is wanted then. */
  prepare(): void {
    const { isWanted, delayMs } = this.#options;
    if (this.#waiting || this.#timer || this.#isClosed || !isWanted()) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (isWanted()) this.#launch();
    }, delayMs).unref();
  }

  /** The one that waits, the caller's from now on; undefined where there is none. */
  take(): LaunchedProgram | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.take()?.kill();
  }

  #launch(): void {
    const { launch, logger } = this.#options;
    try {
      const program = launch();
      this.#waiting = program;
      // Not replaced here: what ended it might end the next one too, on and on.
      void program.exited.then((failure) => {
        if (this.#waiting !== program) return;
        this.#waiting = undefined;
        logger.warn("a supervisor that was started ahead has ended", { error: failure });
      });
    } catch (error) {
      // None is needed: the first container starts its own.
      logger.warn("cannot start a supervisor ahead", { error });
    }
  }
}
