import { CodedError, failedPrecondition, wrap } from "#pkg/errors.ts";
import { type Logger, silentLogger } from "#pkg/log.ts";
import { assertIdentifier } from "#pkg/identifier.ts";

interface ContextFields {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly namespace?: string | undefined;
  readonly lease?: string | undefined;
  readonly deadlineMs?: number | undefined;
}

/**
 * What travels with a call, first argument of everything that waits on the outside.
 *
 * Immutable: each `with` returns a new one. `signal` ends the work, by the caller's cancel or by the deadline;
 * `namespace` and `lease` are explicit since a namespace that arrives invisibly is a security bug waiting.
 */
export class Context {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Undefined outside a namespaced call; namespaced code asks `requireNamespace`. */
  readonly namespace: string | undefined;
  /** Resources made under this context are added to this lease. */
  readonly lease: string | undefined;
  /** Unix time in milliseconds by which the caller has stopped waiting; sent on to other servers. */
  readonly deadlineMs: number | undefined;

  readonly #fields: ContextFields;

  private constructor(fields: ContextFields) {
    this.#fields = fields;
    this.signal = fields.signal;
    this.logger = fields.logger;
    this.namespace = fields.namespace;
    this.lease = fields.lease;
    this.deadlineMs = fields.deadlineMs;
  }

  /** Never ends by itself. For mains and tests; everything else derives from what it was given. */
  static background(fields: Partial<ContextFields> = {}): Context {
    return new Context({ signal: new AbortController().signal, logger: silentLogger, ...fields });
  }

  withNamespace(namespace: string | undefined): Context {
    return new Context({ ...this.#fields, namespace });
  }

  withLease(lease: string | undefined): Context {
    return new Context({ ...this.#fields, lease });
  }

  withLogger(logger: Logger): Context {
    return new Context({ ...this.#fields, logger });
  }

  /** Ends when this context or the given signal does. */
  withSignal(signal: AbortSignal): Context {
    return new Context({ ...this.#fields, signal: AbortSignal.any([this.signal, signal]) });
  }

  /** Ends at the latest after `timeoutMs`, with `deadline-exceeded`. */
  withTimeout(timeoutMs: number): Context {
    const deadlineMs = Math.min(
      this.deadlineMs ?? Number.POSITIVE_INFINITY,
      Date.now() + timeoutMs,
    );
    return new Context({
      ...this.#fields,
      deadlineMs,
      signal: AbortSignal.any([this.signal, AbortSignal.timeout(timeoutMs)]),
    });
  }

  /** Same namespace, lease and logger on a budget of its own: for clean-up after a cancel. */
  detached({ timeoutMs }: { timeoutMs: number }): Context {
    return new Context({
      ...this.#fields,
      deadlineMs: Date.now() + timeoutMs,
      signal: AbortSignal.timeout(timeoutMs),
    });
  }

  /** Throws `canceled` or `deadline-exceeded` when the context has ended. */
  throwIfEnded(): void {
    if (!this.signal.aborted) return;
    const reason: unknown = this.signal.reason;
    const timedOut = reason instanceof Error && reason.name === "TimeoutError";
    throw timedOut
      ? new CodedError("deadline-exceeded", "context deadline exceeded", { cause: reason })
      : new CodedError("canceled", "context canceled", { cause: reason });
  }
}

/**
 * The namespace of a namespaced call.
 *
 * Throws `failed-precondition` with upstream's words when there is none, `invalid-argument` when it is no identifier.
 */
export function requireNamespace(ctx: Context): string {
  if (ctx.namespace === undefined || ctx.namespace === "") {
    throw failedPrecondition("namespace is required");
  }
  try {
    assertIdentifier(ctx.namespace);
  } catch (error) {
    throw wrap("namespace validation", error);
  }
  return ctx.namespace;
}
