import { chmodSync, rmSync } from "node:fs";
import {
  doorbell,
  type EndRole,
  formatMessage,
  type HandoverMessage,
  hello,
  type ProcessName,
} from "#core/runtime/handover.ts";
import type { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";
import { type FdConnection, FdListener } from "#pkg/sys/fd-passing.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import type { IoEnd } from "./process-io.ts";

type HandoverCalls = Pick<Syscalls, "sendmsg" | "recvmsg" | "close">;

const helloTimeoutMs = 5_000;
/** Until a daemon that does not read is tried again. */
const retryMs = 20;

/** A process whose descriptors a successor would need. */
export interface HandedOver {
  readonly name: ProcessName;
  /** That which a successor will find on record. */
  readonly pid: number;
  /** The open ones, none once it is over. They stay the process's own. */
  ends(): readonly IoEnd[];
}

/** The way to one daemon. */
interface Channel {
  readonly connection: FdConnection;
  /** Our end of its pair. */
  readonly pair: number;
}

/**
 * Gives the daemon duplicates of what a successor would need, see `handover.ts`.
 *
 * The newest connection is the one that counts: a daemon that was restarted gets everything anew.
 * Nothing waits for a daemon: what it has not read yet is sent later, from the state of then.
 */
export class HandoverServer implements Disposable {
  readonly #ctx: Context;
  readonly #sys: HandoverCalls;
  readonly #listener: FdListener;
  /** With what the daemon of now was sent and not told to release. */
  readonly #sent = new Map<HandedOver, Set<EndRole>>();
  /** Since they were last sent, the oldest first: a name may be used again. */
  readonly #changed = new Set<HandedOver>();
  #channel: Channel | undefined;
  #isComplete = false;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  private constructor(ctx: Context, sys: HandoverCalls, listener: FdListener) {
    this.#ctx = ctx;
    this.#sys = sys;
    this.#listener = listener;
  }

  /** Takes the path over from a supervisor that has died: whoever calls is the group's only one. */
  static async listen(ctx: Context, sys: HandoverCalls, path: string): Promise<HandoverServer> {
    rmSync(path, { force: true });
    const listener = await FdListener.listen(sys, path);
    chmodSync(path, 0o600);
    const server = new HandoverServer(ctx, sys, listener);
    void server.#acceptAll();
    return server;
  }

  /**
   * Looks at a process's descriptors again. Call it in the turn in which they change: one that is
   * closed must not be sent, since its number may be another's by then.
   */
  changed(process: HandedOver): void {
    if (!this.#sent.has(process)) {
      if (process.ends().length === 0) return;
      this.#sent.set(process, new Set());
    }
    this.#changed.add(process);
    this.#flush();
  }

  /** Takes the name away at once; who is connected is told of changes until the process ends. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener.close();
  }

  [Symbol.dispose](): void {
    this.close();
    this.#drop();
  }

  async #acceptAll(): Promise<void> {
    const { logger } = this.#ctx;
    for (;;) {
      let connection: FdConnection;
      try {
        connection = await this.#listener.accept(this.#ctx);
      } catch (error) {
        if (!this.#isClosed) logger.error("hand-over: no daemon can connect", { error });
        return;
      }
      try {
        await this.#greet(connection);
      } catch (error) {
        logger.warn("hand-over: connection refused", { error });
      }
    }
  }

  async #greet(connection: FdConnection): Promise<void> {
    using stack = new DisposableStack();
    stack.use(connection);
    const bounded = this.#ctx.withTimeout(helloTimeoutMs);
    const { data, fds } = await connection.receive(bounded, { bytesMax: 64, fdsMax: 1 });
    for (const fd of fds) stack.defer(() => this.#sys.close(fd));
    const [pair] = fds;
    if (pair === undefined || !data.equals(hello)) throw new Error("it did not say hello");
    stack.move();
    this.#drop();
    this.#channel = { connection, pair };
    this.#isComplete = false;
    for (const [process, sent] of this.#sent) {
      sent.clear();
      this.#changed.add(process);
    }
    this.#flush();
  }

  #flush(): void {
    clearTimeout(this.#retry);
    const channel = this.#channel;
    if (!channel) {
      this.#forgetEnded();
      return;
    }
    try {
      if (this.#sendAll(channel)) return;
    } catch (error) {
      this.#drop();
      if (!isErrno(error, "EPIPE", "ECONNRESET", "ENOTCONN")) {
        this.#ctx.logger.warn("hand-over: daemon is lost", { error });
      }
      return;
    }
    this.#retry = setTimeout(() => this.#flush(), retryMs).unref();
  }

  /** False when the daemon has to read first. */
  #sendAll(channel: Channel): boolean {
    for (const process of this.#changed) {
      if (!this.#sendChange(channel, process)) return false;
      this.#changed.delete(process);
      if (process.ends().length === 0) this.#sent.delete(process);
    }
    if (!this.#isComplete) {
      if (!this.#send(channel, { kind: "complete" }, [])) return false;
      this.#isComplete = true;
    }
    return true;
  }

  #sendChange(channel: Channel, process: HandedOver): boolean {
    const name = { ...process.name, pid: process.pid };
    const sent = this.#sent.get(process) ?? new Set();
    const ends = process.ends();
    // Apart from what is added: where there is no room for a new one an old one still goes.
    const gone = [...sent].filter((role) => !ends.some((end) => end.role === role));
    if (gone.length > 0) {
      if (!this.#send(channel, { kind: "release", ...name, roles: gone }, [])) return false;
      for (const role of gone) sent.delete(role);
    }
    const added = ends.filter(({ role }) => !sent.has(role));
    if (added.length > 0) {
      const roles = added.map(({ role }) => role);
      const fds = added.map(({ fd }) => fd);
      if (!this.#send(channel, { kind: "hold", ...name, roles }, fds)) return false;
      for (const role of roles) sent.add(role);
    }
    return true;
  }

  #send({ pair, connection }: Channel, message: HandoverMessage, fds: readonly number[]): boolean {
    try {
      this.#sys.sendmsg(pair, formatMessage(message), fds);
    } catch (error) {
      // The latter: too many are on their way, in all connections of this user together.
      if (isErrno(error, "EAGAIN", "ETOOMANYREFS")) return false;
      throw error;
    }
    // Where it does not fit others are before it, and one is as good as all of them.
    connection.trySend(doorbell, []);
    return true;
  }

  /** Nobody is to be told. */
  #forgetEnded(): void {
    for (const process of this.#changed) {
      if (process.ends().length === 0) this.#sent.delete(process);
    }
    this.#changed.clear();
  }

  #drop(): void {
    clearTimeout(this.#retry);
    if (!this.#channel) return;
    this.#channel.connection.close();
    this.#sys.close(this.#channel.pair);
    this.#channel = undefined;
    this.#forgetEnded();
  }
}
