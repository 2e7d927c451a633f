import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";

/**
 * Messages both ways between a client and the daemon, for what a unary call cannot carry: the bytes of an archive,
 * progress, questions for credentials.
 */
export interface Stream {
  /**
   * Resolves when the message is on its way or queued. Messages leave in the order of the calls. Throws `unavailable`
   * once the stream has ended.
   */
  send(ctx: Context, message: Any): Promise<void>;
  /** The next message; undefined when the other side sends no more. One caller at a time. */
  receive(ctx: Context): Promise<Any | undefined>;
  /** Resolves when all that was sent has left. Throws `unavailable` when the stream ended before. */
  flush(ctx: Context): Promise<void>;
  /**
   * Ends the stream once what was sent has left, or the other side is gone. A side that reads nothing is not waited
   * for longer than a few seconds. Closing again does nothing.
   */
  close(): Promise<void>;
}

/** Streams by the name their client gave them, by `ctx.namespace`. */
export interface StreamManager {
  /**
   * Keeps the stream under the name until it is disposed or collected. Under a lease the stream lives no longer than
   * that. Throws `already-exists`, and `invalid-argument` for a name that is empty or too long.
   */
  register(ctx: Context, name: string, stream: Stream): Disposable;
  /** Throws `not-found`. */
  get(ctx: Context, name: string): Stream;
}

/** Makes streams to a daemon. */
export interface StreamCreator {
  create(ctx: Context, name: string): Promise<Stream>;
}
