import { Socket } from "node:net";
import { AT, O } from "#pkg/sys/constants.ts";
import { exitStatus32 } from "#pkg/sys/exit-status.ts";
import type { Reaper } from "#pkg/sys/reaper.ts";
import type { SpawnProcess } from "#pkg/sys/spawn.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { settlesWithin } from "./process-io.ts";
import type { CommandRequest, CommandResult, CommandRunner } from "./runtime-cli.ts";

const outputMax = 1024 * 1024;
const outputTimeoutMs = 2_000;
const SIGKILL = 9;

export interface ChildrenOptions {
  readonly sys: Syscalls;
  readonly spawn: SpawnProcess;
  readonly reaper: Reaper;
  /** The whole environment of every child. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Soft limit of open files that children start with; undefined leaves them this process's own.
   */
  readonly nofileSoft: number | undefined;
}

export interface SpawnRequest {
  readonly path: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly fds: readonly number[];
  /** Instead of the ordinary one. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Child {
  readonly pid: number;
  /** Exit code, 128 + n for signal n. */
  readonly exited: Promise<number>;
}

/**
 * Starts the programs a supervisor needs and waits for them. What runs for longer than it may is
 * killed, and waited for all the same: one that the kernel holds does not end before it lets go.
 */
export class Children implements CommandRunner {
  readonly #options: ChildrenOptions;

  constructor(options: ChildrenOptions) {
    this.#options = options;
  }

  spawn(request: SpawnRequest): Child {
    const { spawn, reaper, env, nofileSoft } = this.#options;
    const { pid } = spawn({
      path: request.path,
      argv: [request.path, ...request.args],
      env: request.env ?? env,
      cwd: request.cwd,
      fds: request.fds,
      ...(nofileSoft !== undefined && { nofileSoft }),
    });
    return { pid, exited: reaper.wait(pid).then(exitStatus32) };
  }

  async run(request: CommandRequest): Promise<CommandResult> {
    if (request.stdio) return await this.#wait(request, request.stdio);
    using stack = new DisposableStack();
    const none = this.#openNull(stack);
    return await this.#wait(request, [none, none, none]);
  }

  async capture(request: CommandRequest): Promise<CommandResult & { output: string }> {
    const { sys } = this.#options;
    using stack = new DisposableStack();
    const none = this.#openNull(stack);
    const pipe = sys.pipe2(0);
    const source = new Socket({ fd: pipe.read, readable: true, writable: false });
    stack.defer(() => source.destroy());
    const output = collect(source);
    let running: Promise<CommandResult>;
    try {
      running = this.#wait(request, [none, pipe.write, none]);
    } finally {
      sys.close(pipe.write);
    }
    const result = await running;
    // What the command has left behind may hold the pipe open; what it printed itself is here by
    // then.
    await settlesWithin(output.complete, outputTimeoutMs);
    return { ...result, output: output.text() };
  }

  #openNull(stack: DisposableStack): number {
    const { sys } = this.#options;
    const fd = sys.openat(AT.FDCWD, "/dev/null", O.RDWR);
    stack.defer(() => sys.close(fd));
    return fd;
  }

  async #wait(
    { path, args, cwd, timeoutMs }: CommandRequest,
    fds: readonly [number, number, number],
  ): Promise<CommandResult> {
    const { sys } = this.#options;
    const { pid, exited } = this.spawn({ path, args, cwd, fds });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      // Not yet reaped, or the timer would be gone: the pid is still that child's.
      sys.kill(pid, SIGKILL);
    }, timeoutMs);
    try {
      return { status: await exited, timedOut };
    } finally {
      clearTimeout(timer);
    }
  }
}

function collect(source: Socket): { complete: Promise<void>; text: () => string } {
  const chunks: Buffer[] = [];
  let size = 0;
  const { promise: complete, resolve } = Promise.withResolvers<void>();
  source.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= outputMax) chunks.push(chunk);
  });
  source.on("error", () => resolve());
  source.on("close", () => resolve());
  return { complete, text: () => Buffer.concat(chunks).toString("utf8") };
}
