import { Socket } from "node:net";
import type { Logger } from "#pkg/log.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import {
  createLogFile,
  isFifo,
  openInput,
  openOutput,
  type InputEnd,
  type OutputEnd,
} from "./client-io.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import { pump } from "./pump.ts";
import { readPipes } from "./proc.ts";
import type { ProcessRecord } from "./task-record.ts";
import type { OutputTarget, Stdio } from "./stdio.ts";

export interface PipeIoOptions {
  readonly sys: Syscalls;
  readonly logger: Logger;
  /** Owner of the container's ends. */
  readonly ioUid: number;
  readonly ioGid: number;
}

interface Output {
  readonly role: "stdout" | "stderr";
  /** Our end of the pipe. */
  readonly fd: number;
  readonly source: Socket;
  readonly sink: OutputEnd;
}

interface Input {
  readonly fd: number;
  readonly sink: Socket;
  readonly client: InputEnd;
}

/**
 * Anonymous pipes to the container, copied to and from what the client named. A stream that the
 * client did not name is /dev/null.
 */
export class PipeIo implements ProcessIo {
  readonly consoleSocket = undefined;
  readonly childStdio: readonly [number, number, number] | undefined;
  readonly #logger: Logger;
  readonly #resources: DisposableStack;
  readonly #childEnds: DisposableStack;
  readonly #outputs: readonly Output[];
  readonly #input: Input | undefined;
  #copied: Promise<unknown> = Promise.resolve();
  readonly #copying = new Set<"stdout" | "stderr">();
  #closed = false;

  private constructor(
    parts: {
      childStdio: [number, number, number] | undefined;
      resources: DisposableStack;
      childEnds: DisposableStack;
      outputs: Output[];
      input: Input | undefined;
    },
    logger: Logger,
  ) {
    this.childStdio = parts.childStdio;
    this.#resources = parts.resources;
    this.#childEnds = parts.childEnds;
    this.#outputs = parts.outputs;
    this.#input = parts.input;
    this.#logger = logger;
  }

  static async open(
    stdio: Stdio,
    target: OutputTarget & { kind: "none" | "path" | "file" },
    options: PipeIoOptions,
  ): Promise<PipeIo> {
    const { sys } = options;
    if (target.kind === "file") await createLogFile(sys, target.path);
    const paths = target.kind === "file" ? { stdout: target.path, stderr: target.path } : stdio;
    using resources = new DisposableStack();
    using childEnds = new DisposableStack();
    const stdin = openStdin(stdio.stdin, options, resources, childEnds);
    const outputs: Output[] = [];
    const sinks = new Map<string, OutputEnd>();
    const openOne = (role: "stdout" | "stderr"): number => {
      const path = paths[role];
      if (path === "") return nullDevice(sys, childEnds);
      const sink = sinks.get(path) ?? adoptStream(openOutput(sys, path), resources);
      sinks.set(path, sink);
      const pipe = openPipe(options, "read", childEnds);
      const source = new Socket({ fd: pipe.ours, readable: true, writable: false });
      resources.defer(() => source.destroy());
      outputs.push({ role, fd: pipe.ours, source, sink });
      return pipe.theirs;
    };
    const childStdio: [number, number, number] = [
      stdin.childFd,
      openOne("stdout"),
      openOne("stderr"),
    ];
    const parts = { childStdio, outputs, input: stdin.input };
    return new PipeIo(
      { ...parts, resources: resources.move(), childEnds: childEnds.move() },
      options.logger,
    );
  }

  /**
   * For a process that runs already: its ends of the pipes are opened again from the other side, if
   * it still has what the record says. Copies at once. Without a record nothing is connected.
   */
  static reopen(
    stdio: Stdio,
    target: OutputTarget,
    record: ProcessRecord | undefined,
    { sys, logger }: Pick<PipeIoOptions, "sys" | "logger">,
  ): PipeIo {
    const paths = target.kind === "file" ? { stdout: target.path, stderr: target.path } : stdio;
    using resources = new DisposableStack();
    const outputs: Output[] = [];
    const now = record ? readPipes(record.pid) : {};
    const reopenEnd = (number: "0" | "1" | "2", flags: number): number | undefined => {
      if (record?.pipes[number] === undefined || now[number] !== record.pipes[number]) return;
      return sys.openat(AT.FDCWD, `/proc/${record.pid}/fd/${number}`, flags | O.NONBLOCK);
    };
    for (const [role, number] of [
      ["stdout", "1"],
      ["stderr", "2"],
    ] as const) {
      const fd = paths[role] === "" ? undefined : reopenEnd(number, O.RDONLY);
      if (fd === undefined) continue;
      const source = new Socket({ fd, readable: true, writable: false });
      resources.defer(() => source.destroy());
      outputs.push({
        role,
        fd,
        source,
        sink: adoptStream(openOutput(sys, paths[role]), resources),
      });
    }
    let input: Input | undefined;
    const stdinFd = isInput(sys, stdio.stdin) ? reopenEnd("0", O.WRONLY) : undefined;
    if (stdinFd !== undefined) input = connectInput(sys, stdio.stdin, stdinFd, resources);
    const io = new PipeIo(
      {
        childStdio: undefined,
        outputs,
        input,
        resources: resources.move(),
        childEnds: new DisposableStack(),
      },
      logger,
    );
    void io.start();
    return io;
  }

  start(): Promise<void> {
    this.#childEnds.dispose();
    this.#copied = Promise.all(this.#outputs.map((output) => this.#copyOut(output)));
    if (this.#input) void this.#copyIn(this.#input);
    return Promise.resolve();
  }

  closeStdin(): void {
    this.#input?.client.release();
  }

  resize(): void {}

  processExited(): void {}

  drain(timeoutMs: number): Promise<boolean> {
    return settlesWithin(this.#copied, timeoutMs);
  }

  ends(): IoEnd[] {
    if (this.#closed) return [];
    const ends: IoEnd[] = this.#outputs.flatMap(({ role, fd, sink }) => [
      { role, fd },
      { role: `client-${role}` as const, fd: sink.fd },
    ]);
    if (this.#input) {
      ends.push({ role: "stdin", fd: this.#input.fd });
      ends.push({ role: "client-stdin", fd: this.#input.client.fd });
    }
    return ends;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#childEnds.dispose();
    this.#resources.dispose();
    await this.#copied;
  }

  async #copyOut({ role, source, sink }: Output): Promise<void> {
    this.#copying.add(role);
    await pump(source, sink.stream, {
      afterSinkError: "drop",
      onError: (error) => this.#logger.warn(`error copying ${role}`, { error }),
    });
    source.destroy();
    this.#copying.delete(role);
    // The client sees the end when its FIFO has no writer left.
    const shared = this.#outputs.some(
      (other) => other.sink === sink && this.#copying.has(other.role),
    );
    if (!shared) sink.stream.destroy();
  }

  async #copyIn({ client, sink }: Input): Promise<void> {
    await pump(client.stream, sink, {
      afterSinkError: "stop",
      onError: (error) => this.#logger.warn("error copying stdin", { error }),
    });
    client.release();
    client.stream.destroy();
    sink.destroy();
  }
}

function openStdin(
  path: string,
  options: PipeIoOptions,
  resources: DisposableStack,
  childEnds: DisposableStack,
): { childFd: number; input: Input | undefined } {
  const { sys } = options;
  if (path === "") return { childFd: nullDevice(sys, childEnds), input: undefined };
  if (!isFifo(sys, path)) {
    // A file or a device needs nobody between it and the container.
    return { childFd: openFor(sys, path, O.RDONLY, childEnds), input: undefined };
  }
  const pipe = openPipe(options, "write", childEnds);
  return { childFd: pipe.theirs, input: connectInput(sys, path, pipe.ours, resources) };
}

function isInput(sys: Syscalls, path: string): boolean {
  return path !== "" && isFifo(sys, path);
}

/** Takes the writing end over. */
function connectInput(sys: Syscalls, path: string, fd: number, resources: DisposableStack): Input {
  const sink = new Socket({ fd, readable: false, writable: true });
  // A container that closes its input is no error of anybody's.
  sink.on("error", () => {});
  resources.defer(() => sink.destroy());
  const client = openInput(sys, path);
  resources.defer(() => {
    client.release();
    client.stream.destroy();
  });
  return { fd, sink, client };
}

function openPipe(
  options: PipeIoOptions,
  ourEnd: "read" | "write",
  childEnds: DisposableStack,
): { ours: number; theirs: number } {
  const { sys, ioUid, ioGid } = options;
  const pipe = sys.pipe2(0);
  const [ours, theirs] = ourEnd === "read" ? [pipe.read, pipe.write] : [pipe.write, pipe.read];
  childEnds.defer(() => sys.close(theirs));
  try {
    sys.fchown(theirs, ioUid, ioGid);
    // Only ours: a container's own end that does not block breaks what reads it (cat says EAGAIN
    // and ends).
    sys.setStatusFlags(ours, O.NONBLOCK);
  } catch (error) {
    sys.close(ours);
    throw error;
  }
  return { ours, theirs };
}

function adoptStream(end: OutputEnd, resources: DisposableStack): OutputEnd {
  // Each write hears of its failure itself.
  end.stream.on("error", () => {});
  resources.defer(() => end.stream.destroy());
  return end;
}

function nullDevice(sys: Syscalls, childEnds: DisposableStack): number {
  return openFor(sys, "/dev/null", O.RDWR, childEnds);
}

function openFor(sys: Syscalls, path: string, flags: number, childEnds: DisposableStack): number {
  const fd = sys.openat(AT.FDCWD, path, flags);
  childEnds.defer(() => sys.close(fd));
  return fd;
}
