import { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";

/** setTimeout takes no longer delay; a deadline beyond it is as good as none. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** A client counts from before its call was on the way, so its reset may come before our timer. */
const CLIENT_AHEAD_MS = 20;

export interface CallScopeOptions {
  readonly namespace: string | undefined;
  readonly lease: string | undefined;
  /** Undefined when the caller waits for ever; not above zero when it has already stopped. */
  readonly timeoutMs: number | undefined;
}

/** A served call's context, and the ways it ends. Whoever makes one calls `end` when the call is over. */
export class CallScope {
  readonly ctx: Context;

  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(base: Context, { namespace, lease, timeoutMs }: CallScopeOptions) {
    this.ctx = Context.background({
      signal: this.#controller.signal,
      logger: base.logger,
      namespace,
      lease,
      deadlineMs: timeoutMs === undefined ? undefined : Date.now() + timeoutMs,
    });
    if (timeoutMs === undefined) return;
    if (timeoutMs <= 0) this.#expire();
    else if (timeoutMs <= TIMER_MS_MAX) {
      this.#timer = setTimeout(() => this.#expire(), Math.ceil(timeoutMs));
    }
  }

  /** The caller gave up or its connection is gone. Means nothing once the call is over. */
  cancel(): void {
    if (this.#isOver) return;
    const { deadlineMs } = this.ctx;
    if (deadlineMs !== undefined && Date.now() >= deadlineMs - CLIENT_AHEAD_MS) this.#expire();
    else this.#controller.abort();
  }

  /** Why the context ended, as the caller would be told. */
  error(): CodedError {
    const reason: unknown = this.ctx.signal.reason;
    return reason instanceof Error && reason.name === "TimeoutError"
      ? new CodedError("deadline-exceeded", "context deadline exceeded", { cause: reason })
      : new CodedError("canceled", "context canceled", { cause: reason });
  }

  end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #expire(): void {
    this.#controller.abort(new DOMException("context deadline exceeded", "TimeoutError"));
  }
}
