import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { FdListener } from "#pkg/sys/fd-passing.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

const receiveTimeoutMs = 30_000;

/**
 * The socket on which a runtime hands over the master side of a new terminal.
 *
 * Disposing removes the socket; a master that was received belongs to the receiver.
 */
export class ConsoleSocket implements AsyncDisposable {
  readonly path: string;
  readonly #listener: FdListener;
  readonly #directory: string;

  private constructor(listener: FdListener, directory: string, path: string) {
    this.path = path;
    this.#listener = listener;
    this.#directory = directory;
  }

  static async open(sys: Syscalls): Promise<ConsoleSocket> {
    // Not in the bundle, whose path may be longer than a socket's may be.
    const directory = await mkdtemp(join(tmpdir(), "pty"));
    const path = join(directory, "pty.sock");
    try {
      const listener = await FdListener.listen(sys, path);
      await chmod(path, 0o700);
      return new ConsoleSocket(listener, directory, path);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** The terminal's master. Throws when none comes within 30 s. */
  async receiveMaster(ctx: Context): Promise<number> {
    const bounded = ctx.withTimeout(receiveTimeoutMs);
    try {
      using connection = await this.#listener.accept(bounded);
      const { fds } = await connection.receive(bounded, { bytesMax: 4096, fdsMax: 1 });
      const [master] = fds;
      if (master === undefined) throw new CodedError("unknown", "the runtime sent no terminal");
      return master;
    } catch (error) {
      const text = `failed to retrieve console master: ${messageOf(error)}`;
      throw new CodedError("unknown", text, { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
