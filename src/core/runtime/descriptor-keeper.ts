import {
  type EndRole,
  hello,
  type HandoverMessage,
  keyOf,
  messageBytesMax,
  parseMessage,
  type ProcessEnds,
  type ProcessName,
} from "#core/runtime/handover.ts";
import type { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { SOCK } from "#pkg/sys/constants.ts";
import { FdConnection } from "#pkg/sys/fd-passing.ts";
import type { Fd, ReceivedMessage, Syscalls } from "#pkg/sys/syscall.ts";

interface Held {
  readonly name: ProcessName;
  readonly pid: number;
  readonly ends: Map<EndRole, Fd>;
}

/** What keeping needs of the kernel. */
export type KeeperCalls = Pick<Syscalls, "socketpair" | "sendmsg" | "recvmsg" | "close">;

/** A process and its descriptors, which stay the keeper's. */
export interface HeldProcess extends ProcessName {
  readonly pid: number;
  readonly ends: ReadonlyMap<EndRole, Fd>;
}

/** Connects to the hand-over of a supervisor; throws where none listens. */
export type KeeperDialer = (ctx: Context, path: string) => Promise<DescriptorKeeper>;

/** Far more than a container and its execs have; a supervisor gone wild must not use up a table. */
const descriptorsMax = 16_384;
/** Of one message: one of each role. */
const fdsPerMessageMax = 16;
/** Before other work of the daemon has its turn. */
const messagesPerTurnMax = 256;

/**
 * Duplicates of the descriptors of one supervisor's processes, as they stand: see `handover.ts`.
 *
 * Outlives the connection, since that is what it is for. Disposing closes all of them.
 */
export class DescriptorKeeper implements Disposable {
  /** Resolves with false when the supervisor closed before it had sent all there was. */
  readonly complete: Promise<boolean>;
  readonly #sys: KeeperCalls;
  readonly #logger: Logger;
  readonly #connection: FdConnection;
  readonly #pair: Fd;
  readonly #processes = new Map<string, Held>();
  readonly #completed = Promise.withResolvers<boolean>();
  #count = 0;
  #isDisposed = false;
  #nextTurn: NodeJS.Immediate | undefined;

  private constructor(
    sys: KeeperCalls,
    parts: { logger: Logger; connection: FdConnection; pair: Fd },
  ) {
    this.#sys = sys;
    this.#logger = parts.logger;
    this.#connection = parts.connection;
    this.#pair = parts.pair;
    this.complete = this.#completed.promise;
    this.#connection.listen({
      onData: () => this.#receive(messagesPerTurnMax),
      onClose: () => this.#onClose(),
    });
  }

  /** Asks the supervisor at the path for all it has. Throws where none listens. */
  static async connect(ctx: Context, sys: KeeperCalls, path: string): Promise<DescriptorKeeper> {
    using undo = new DisposableStack();
    const connection = undo.use(await FdConnection.connect(ctx, sys, path));
    const [ours, theirs] = sys.socketpair(SOCK.SEQPACKET, { nonBlocking: true });
    undo.defer(() => sys.close(ours));
    try {
      await connection.send(ctx, hello, [theirs]);
    } finally {
      sys.close(theirs);
    }
    undo.move();
    return new DescriptorKeeper(sys, { logger: ctx.logger, connection, pair: ours });
  }

  /** As they stand now: what a dead supervisor had sent last is read first. */
  processes(): readonly HeldProcess[] {
    this.#receive(Number.POSITIVE_INFINITY);
    return [...this.#processes.values()].map(({ name, pid, ends }) => ({ ...name, pid, ends }));
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    clearImmediate(this.#nextTurn);
    this.#connection.close();
    this.#sys.close(this.#pair);
    for (const { ends } of this.#processes.values()) {
      for (const fd of ends.values()) this.#sys.close(fd);
    }
    this.#processes.clear();
    this.#completed.resolve(false);
  }

  #onClose(): void {
    this.#receive(Number.POSITIVE_INFINITY);
    this.#completed.resolve(false);
  }

  #receive(messagesMax: number): void {
    for (let n = 0; n < messagesMax; n++) {
      if (this.#isDisposed) return;
      let message: ReceivedMessage;
      try {
        const room = { bytesMax: messageBytesMax, fdsMax: fdsPerMessageMax };
        message = this.#sys.recvmsg(this.#pair, room);
      } catch (error) {
        if (isErrno(error, "EAGAIN", "ECONNRESET")) return;
        // No room for more descriptors: the process goes on without a copy.
        if (!isErrno(error, "EMSGSIZE")) throw error;
        this.#logger.warn("descriptors of a process are not kept", { error });
        continue;
      }
      if (message.data.length === 0) return;
      this.#take(message);
    }
    this.#nextTurn = setImmediate(() => this.#receive(messagesPerTurnMax));
  }

  #take({ data, fds }: ReceivedMessage): void {
    using received = new DisposableStack();
    for (const fd of fds) received.defer(() => this.#sys.close(fd));
    let message: HandoverMessage;
    try {
      message = parseMessage(data);
    } catch (error) {
      this.#logger.warn("descriptors of a process are not kept", { error });
      return;
    }
    if (message.kind === "complete") this.#completed.resolve(true);
    else if (message.kind === "release") this.#release(message);
    else if (message.roles.length !== fds.length || this.#count + fds.length > descriptorsMax) {
      this.#logger.warn("descriptors of a process are not kept", { ...message, held: this.#count });
    } else {
      received.move();
      this.#hold(message, fds);
    }
  }

  /** Takes the descriptors over, one for each role. */
  #hold({ roles, containerId, execId, pid }: ProcessEnds, fds: readonly Fd[]): void {
    const name = { containerId, execId };
    const before = this.#processes.get(keyOf(name));
    // The name is another process's now.
    if (before && before.pid !== pid) this.#drop(before, [...before.ends.keys()]);
    this.#release({ ...name, pid, roles });
    const process = this.#processes.get(keyOf(name)) ?? { name, pid, ends: new Map() };
    this.#processes.set(keyOf(name), process);
    for (const [i, role] of roles.entries()) {
      const fd = fds[i];
      if (fd !== undefined) process.ends.set(role, fd);
    }
    this.#count += fds.length;
  }

  #release({ roles, ...of }: ProcessEnds): void {
    const process = this.#processes.get(keyOf(of));
    if (process?.pid === of.pid) this.#drop(process, roles);
  }

  #drop(process: Held, roles: readonly EndRole[]): void {
    for (const role of roles) {
      const fd = process.ends.get(role);
      if (fd === undefined) continue;
      process.ends.delete(role);
      this.#count -= 1;
      this.#sys.close(fd);
    }
    if (process.ends.size === 0) this.#processes.delete(keyOf(process.name));
  }
}
