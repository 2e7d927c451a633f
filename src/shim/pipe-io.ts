import { Socket } from "node:net";
import type { Logger } from "#pkg/log.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import {
  createLogFile,
  isFifo,
  openInput,
  openOutput,
  resumeInput,
  resumeOutput,
  type InputEnd,
  type OutputEnd,
} from "./client-io.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import { pump } from "./pump.ts";
import { readPipes } from "./proc.ts";
import type { InheritedEnds } from "./inherited-ends.ts";
import type { ProcessRecord } from "./task-record.ts";
import type { OutputTarget, Stdio } from "./stdio.ts";

export interface PipeIoOptions {
  readonly sys: Syscalls;
  readonly logger: Logger;
  /** Owner of the container's ends. */
  readonly ioUid: number;
  readonly ioGid: number;
  /** See `ProcessIo.ends`. */
  readonly onChange: () => void;
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
  readonly #onChange: () => void;
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
    { logger, onChange }: Pick<PipeIoOptions, "logger" | "onChange">,
  ) {
    this.childStdio = parts.childStdio;
    this.#resources = parts.resources;
    this.#childEnds = parts.childEnds;
    this.#outputs = parts.outputs;
    this.#input = parts.input;
    this.#logger = logger;
    this.#onChange = onChange;
  }

  static async open(
    stdio: Stdio,
    target: OutputTarget & { kind: "none" | "path" | "file" },
    options: PipeIoOptions,
  ): Promise<PipeIo> {
    const { sys } = options;
    if (target.kind === "file") createLogFile(sys, target.path);
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
      options,
    );
  }

  /**
   * For a process that runs already: goes on with what the daemon has kept of an earlier
   * supervisor's. Where it kept nothing the process's ends of the pipes are opened again from the
   * other side, if it still has what the record says. Copies at once.
   */
  static resume(
    stdio: Stdio,
    target: OutputTarget & { kind: "none" | "path" | "file" },
    from: { readonly record: ProcessRecord; readonly inherited: InheritedEnds | undefined },
    options: Pick<PipeIoOptions, "sys" | "logger" | "onChange">,
  ): PipeIo {
    const { sys } = options;
    const { inherited, record } = from;
    const paths = target.kind === "file" ? { stdout: target.path, stderr: target.path } : stdio;
    using resources = new DisposableStack();
    const outputs: Output[] = [];
    const sinks = new Map<string, OutputEnd>();
    for (const role of ["stdout", "stderr"] as const) {
      const path = paths[role];
      if (path === "") continue;
      const fd = inherited?.take(role) ?? reopenEnd(sys, record, role);
      if (fd === undefined) continue;
      const source = new Socket({ fd, readable: true, writable: false });
      resources.defer(() => source.destroy());
      const sink =
        sinks.get(path) ?? adoptStream(resumeSink(sys, path, role, inherited), resources);
      sinks.set(path, sink);
      outputs.push({ role, fd, source, sink });
    }
    const input = resumeStdin(sys, stdio.stdin, from, resources);
    const childEnds = new DisposableStack();
    const parts = { childStdio: undefined, outputs, input, childEnds };
    const io = new PipeIo({ ...parts, resources: resources.move() }, options);
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
    this.#onChange();
  }

  resize(): void {}

  processExited(): void {}

  drain(timeoutMs: number): Promise<boolean> {
    return settlesWithin(this.#copied, timeoutMs);
  }

  ends(): IoEnd[] {
    if (this.#closed) return [];
    const ends: IoEnd[] = [];
    for (const { role, fd, source, sink } of this.#outputs) {
      if (!source.destroyed) ends.push({ role, fd });
      if (!sink.stream.destroyed) ends.push({ role: `client-${role}`, fd: sink.fd });
    }
    if (!this.#input) return ends;
    const { fd, sink, client } = this.#input;
    if (!sink.destroyed) ends.push({ role: "stdin", fd });
    if (!client.stream.destroyed) ends.push({ role: "client-stdin", fd: client.fd });
    if (client.keeper !== undefined) {
      ends.push({ role: "client-stdin-keeper", fd: client.keeper });
    }
    return ends;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#childEnds.dispose();
    this.#resources.dispose();
    this.#onChange();
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
    this.#onChange();
  }

  async #copyIn({ client, sink }: Input): Promise<void> {
    await pump(client.stream, sink, {
      afterSinkError: "stop",
      onError: (error) => this.#logger.warn("error copying stdin", { error }),
    });
    client.release();
    client.stream.destroy();
    sink.destroy();
    this.#onChange();
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
  let client: InputEnd;
  try {
    client = openInput(sys, path);
  } catch (error) {
    sys.close(pipe.ours);
    throw error;
  }
  return { childFd: pipe.theirs, input: connectInput(pipe.ours, client, resources) };
}

/**
 * A process whose ends were kept has the input it had: where there is none it has ended, and the
 * process has been told so.
 */
function resumeStdin(
  sys: Syscalls,
  path: string,
  { record, inherited }: { record: ProcessRecord; inherited: InheritedEnds | undefined },
  resources: DisposableStack,
): Input | undefined {
  if (path === "") return undefined;
  const fd = inherited ? inherited.take("stdin") : reopenEnd(sys, record, "stdin");
  if (fd === undefined) return undefined;
  const clientFd = inherited?.take("client-stdin");
  const client =
    clientFd === undefined
      ? openInput(sys, path)
      : resumeInput(sys, clientFd, inherited?.take("client-stdin-keeper"));
  return connectInput(fd, client, resources);
}

function resumeSink(
  sys: Syscalls,
  path: string,
  role: "stdout" | "stderr",
  inherited: InheritedEnds | undefined,
): OutputEnd {
  const fd = inherited?.take(`client-${role}`);
  return fd === undefined ? openOutput(sys, path) : resumeOutput(sys, fd, path);
}

/** The process's own end of a pipe gives ours, through /proc. */
function reopenEnd(
  sys: Syscalls,
  record: ProcessRecord,
  role: "stdin" | "stdout" | "stderr",
): number | undefined {
  const number = ({ stdin: "0", stdout: "1", stderr: "2" } as const)[role];
  const pipe = record.pipes[number];
  if (pipe === undefined || readPipes(record.pid)[number] !== pipe) return undefined;
  const flags = (role === "stdin" ? O.WRONLY : O.RDONLY) | O.NONBLOCK;
  return sys.openat(AT.FDCWD, `/proc/${record.pid}/fd/${number}`, flags);
}

/** Takes both ends over. */
function connectInput(fd: number, client: InputEnd, resources: DisposableStack): Input {
  const sink = new Socket({ fd, readable: false, writable: true });
  // A container that closes its input is no error of anybody's.
  sink.on("error", () => {});
  resources.defer(() => sink.destroy());
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
