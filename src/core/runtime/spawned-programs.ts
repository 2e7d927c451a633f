import { Socket } from "node:net";
import type {
  LaunchedProgram,
  LaunchRequest,
  ProgramRequest,
  ProgramResult,
  ProgramRunner,
} from "#core/runtime/program.ts";
import type { Context } from "#pkg/context.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import type { Reaper } from "#pkg/sys/reaper.ts";
import type { SpawnProcess } from "#pkg/sys/spawn.ts";
import type { ExitStatus, Fd, Syscalls } from "#pkg/sys/syscall.ts";

export interface SpawnedProgramsOptions {
  readonly sys: Pick<Syscalls, "pipe2" | "openat" | "close" | "kill">;
  readonly spawn: SpawnProcess;
  /** The process's one reaper. */
  readonly reaper: Pick<Reaper, "wait">;
  /** The standard error of what `launch` starts; this process's own where it is not given. */
  readonly stderr?: Fd;
}

const outputBytesMax = 1 << 20;
const announcementBytesMax = 64 << 10;
/**
 * What a program wrote is in the pipe when it has ended; what it left behind may hold the pipe open
 * for ever.
 */
const drainTimeoutMs = 1_000;
const SIGKILL = 9;
const noInput = new Uint8Array();

/** Programs by posix_spawn: `child_process` would stop the loop for milliseconds at each start. */
export class SpawnedPrograms implements ProgramRunner {
  readonly #options: SpawnedProgramsOptions;

  constructor(options: SpawnedProgramsOptions) {
    this.#options = options;
  }

  async run(ctx: Context, request: ProgramRequest): Promise<ProgramResult> {
    ctx.throwIfEnded();
    const { spawn, reaper } = this.#options;
    using streams = new DisposableStack();
    using childEnds = new DisposableStack();
    const stdin = this.#input(request.stdin, streams, childEnds);
    const stdout = this.#output(outputBytesMax, streams, childEnds);
    const stderr =
      request.stderr === "apart"
        ? this.#output(outputBytesMax, streams, childEnds)
        : { fd: stdout.fd, complete: stdout.complete, bytes: () => new Uint8Array() };
    const { pid } = spawn({
      path: request.path,
      argv: [request.path, ...request.args],
      env: request.env,
      cwd: request.cwd,
      fds: [stdin, stdout.fd, stderr.fd],
      setpgid: true,
    });
    childEnds.dispose();
    const kill = (): void => this.#kill(-pid);
    ctx.signal.addEventListener("abort", kill, { once: true });
    let status: ExitStatus;
    try {
      status = await reaper.wait(pid);
    } finally {
      ctx.signal.removeEventListener("abort", kill);
    }
    await settled([stdout.complete, stderr.complete], drainTimeoutMs);
    return {
      failure: failureOf(status),
      exitCode: status.signal === undefined ? status.code : undefined,
      stdout: stdout.bytes(),
      stderr: stderr.bytes(),
    };
  }

  launch(request: LaunchRequest): LaunchedProgram {
    const { spawn, reaper } = this.#options;
    using streams = new DisposableStack();
    using childEnds = new DisposableStack();
    const input = request.stdin ? undefined : this.#openInput(streams, childEnds);
    const stdin = input?.fd ?? this.#input(request.stdin ?? noInput, streams, childEnds);
    const stdout = this.#output(announcementBytesMax, streams, childEnds);
    const { pid } = spawn({
      path: request.path,
      argv: [request.path, ...request.args],
      env: request.env,
      cwd: request.cwd,
      fds: [stdin, stdout.fd, this.#options.stderr ?? 2, ...request.fds],
      setsid: true,
    });
    const kept = streams.move();
    const announcement = stdout.complete.then(() => {
      kept.dispose();
      return Buffer.from(stdout.bytes()).toString("utf8");
    });
    let isOver = false;
    const exited = reaper.wait(pid).then(
      (status) => {
        isOver = true;
        return failureOf(status);
      },
      // The reaper closes with the daemon, and the program stays.
      (error: unknown) => String(error),
    );
    const kill = (): void => {
      if (!isOver) this.#kill(pid);
    };
    const feed = (data: Uint8Array): void => void input?.socket.end(data);
    return { pid, announcement, exited, feed, kill };
  }

  #kill(pid: number): void {
    try {
      this.#options.sys.kill(pid, SIGKILL);
    } catch (error) {
      if (!isSyscallError(error, "ESRCH")) throw error;
    }
  }

  /** The end for the child. */
  #input(data: Uint8Array, streams: DisposableStack, childEnds: DisposableStack): Fd {
    const { sys } = this.#options;
    if (data.length === 0) {
      const fd = sys.openat(AT.FDCWD, "/dev/null", O.RDONLY);
      childEnds.defer(() => sys.close(fd));
      return fd;
    }
    const { fd, socket } = this.#openInput(streams, childEnds);
    socket.end(data);
    return fd;
  }

  #openInput(streams: DisposableStack, childEnds: DisposableStack): { fd: Fd; socket: Socket } {
    const { sys } = this.#options;
    const { read, write } = sys.pipe2(0);
    childEnds.defer(() => sys.close(read));
    const socket = new Socket({ fd: write, readable: false, writable: true });
    streams.defer(() => socket.destroy());
    // A program that ends without reading its input is not at fault.
    socket.on("error", () => socket.destroy());
    return { fd: read, socket };
  }

  #output(
    bytesMax: number,
    streams: DisposableStack,
    childEnds: DisposableStack,
  ): { fd: Fd; complete: Promise<void>; bytes: () => Uint8Array } {
    const { sys } = this.#options;
    const { read, write } = sys.pipe2(0);
    childEnds.defer(() => sys.close(write));
    const socket = new Socket({ fd: read, readable: true, writable: false });
    streams.defer(() => socket.destroy());
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    socket.on("data", (chunk: Buffer) => {
      const room = bytesMax - sizeBytes;
      if (room > 0) chunks.push(chunk.subarray(0, room));
      sizeBytes += Math.min(chunk.length, room);
    });
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    socket.on("error", () => resolve());
    socket.on("close", () => resolve());
    return { fd: write, complete, bytes: () => Buffer.concat(chunks) };
  }
}

async function settled(promises: readonly Promise<void>[], timeoutMs: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, timeoutMs);
  try {
    await Promise.race([Promise.all(promises), late]);
  } finally {
    clearTimeout(timer);
  }
}

const signalWords: Readonly<Record<number, string>> = {
  1: "hangup",
  2: "interrupt",
  3: "quit",
  4: "illegal instruction",
  5: "trace/breakpoint trap",
  6: "aborted",
  7: "bus error",
  8: "floating point exception",
  9: "killed",
  10: "user defined signal 1",
  11: "segmentation fault",
  12: "user defined signal 2",
  13: "broken pipe",
  14: "alarm clock",
  15: "terminated",
};

function failureOf(status: ExitStatus): string {
  if (status.signal !== undefined) {
    return `signal: ${signalWords[status.signal] ?? `signal ${status.signal}`}`;
  }
  return status.code === 0 ? "" : `exit status ${status.code}`;
}
