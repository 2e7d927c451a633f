import { Writable } from "node:stream";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { PtyStream } from "#pkg/sys/pty-stream.ts";
import type { Syscalls, WindowSize } from "#pkg/sys/syscall.ts";
import {
  createLogFile,
  type InputEnd,
  openInput,
  openOutput,
  type OutputEnd,
  resumeInput,
  resumeOutput,
} from "./client-io.ts";
import { ConsoleSocket } from "./console-socket.ts";
import type { InheritedEnds } from "./inherited-ends.ts";
import { LoggerProgram } from "./logger-program.ts";
import type { IoOptions } from "./open-io.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import { pump } from "./pump.ts";
import type { OutputTarget, Stdio } from "./stdio.ts";

const blockedPollMs = 20;

type TerminalIoOptions = Pick<IoOptions, "sys" | "logger" | "ctx" | "onChange">;

/**
 * A terminal: the runtime makes it and hands over its master, which is copied to and from the
 * client's FIFOs.
 */
export class TerminalIo implements ProcessIo {
  readonly childStdio = undefined;
  readonly #sys: Syscalls;
  readonly #logger: IoOptions["logger"];
  readonly #ctx: IoOptions["ctx"];
  readonly #onChange: () => void;
  /** Until the runtime has handed the terminal over. */
  readonly #socket: ConsoleSocket | undefined;
  readonly #resources: DisposableStack;
  readonly #output: OutputEnd | undefined;
  readonly #input: InputEnd | undefined;
  readonly #program: LoggerProgram | undefined;
  #master: { readonly fd: number; readonly stream: PtyStream } | undefined;
  #copied: Promise<void> = Promise.resolve();
  #copiedBytes = 0;
  #closed = false;

  private constructor(
    options: TerminalIoOptions,
    parts: {
      socket: ConsoleSocket | undefined;
      resources: DisposableStack;
      output: OutputEnd | undefined;
      input: InputEnd | undefined;
      program: LoggerProgram | undefined;
    },
  ) {
    this.#sys = options.sys;
    this.#logger = options.logger;
    this.#ctx = options.ctx;
    this.#onChange = options.onChange;
    this.#socket = parts.socket;
    this.#resources = parts.resources;
    this.#output = parts.output;
    this.#input = parts.input;
    this.#program = parts.program;
  }

  get consoleSocket(): string | undefined {
    return this.#socket?.path;
  }

  static async open(stdio: Stdio, target: OutputTarget, options: IoOptions): Promise<TerminalIo> {
    const { sys } = options;
    using resources = new DisposableStack();
    const input = stdio.stdin === "" ? undefined : openInput(sys, stdio.stdin);
    own(input, resources);
    const { output, program } = await openTerminalOutput(stdio, target, options);
    own(output, resources);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => program?.terminate());
    const socket = await ConsoleSocket.open(sys);
    undo.move();
    const parts = { socket, output, input, program, resources: resources.move() };
    return new TerminalIo(options, parts);
  }

  /**
   * Goes on with a terminal that the daemon has kept of an earlier supervisor's. Undefined where it
   * has not: then the terminal was hung up with the supervisor's end. Copies at once.
   */
  static resume(
    stdio: Stdio,
    target: OutputTarget,
    inherited: InheritedEnds | undefined,
    options: TerminalIoOptions,
  ): TerminalIo | undefined {
    const { sys } = options;
    const master = inherited?.take("terminal");
    if (inherited === undefined || master === undefined) return undefined;
    using resources = new DisposableStack();
    const path = target.kind === "file" ? target.path : stdio.stdout;
    const outputFd = inherited.take("client-stdout");
    const output = outputFd === undefined ? undefined : resumeOutput(sys, outputFd, path);
    own(output, resources);
    const inputFd = inherited.take("client-stdin");
    const keeper = inherited.take("client-stdin-keeper");
    const input = inputFd === undefined ? undefined : resumeInput(sys, inputFd, keeper);
    own(input, resources);
    const none = { socket: undefined, program: undefined };
    const parts = { ...none, output, input, resources: resources.move() };
    const io = new TerminalIo(options, parts);
    io.#connect(master);
    return io;
  }

  async start(): Promise<void> {
    if (!this.#socket) return;
    const fd = await this.#socket.receiveMaster(this.#ctx);
    await this.#socket[Symbol.asyncDispose]();
    if (this.#closed) this.#sys.close(fd);
    else this.#connect(fd);
  }

  /** Takes the terminal over. */
  #connect(fd: number): void {
    const stream = new PtyStream(this.#sys, fd);
    this.#master = { fd, stream };
    this.#resources.defer(() => stream.destroy());
    this.#copied = this.#copyOut(stream);
    if (this.#input) void this.#copyIn(this.#input, stream);
  }

  closeStdin(): void {
    this.#input?.release();
    this.#onChange();
  }

  resize(size: WindowSize): void {
    this.#master?.stream.resize(size);
  }

  processExited(): void {
    if (this.#master) void this.#hangUpWhenQuiet(this.#master.stream);
  }

  drain(timeoutMs: number): Promise<boolean> {
    const written = this.#copied.then(() => this.#program?.exited);
    return settlesWithin(written, timeoutMs);
  }

  ends(): IoEnd[] {
    if (this.#closed) return [];
    const ends: IoEnd[] = [];
    const [master, output, input] = [this.#master, this.#output, this.#input];
    if (master?.stream.isOpen) ends.push({ role: "terminal", fd: master.fd });
    if (output && !output.stream.destroyed) ends.push({ role: "client-stdout", fd: output.fd });
    if (input && !input.stream.destroyed) ends.push({ role: "client-stdin", fd: input.fd });
    if (input?.keeper !== undefined) ends.push({ role: "client-stdin-keeper", fd: input.keeper });
    return ends;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#resources.dispose();
    this.#onChange();
    await this.#socket?.[Symbol.asyncDispose]();
    await this.#copied;
    await this.#program?.terminate();
  }

  async #copyOut(master: PtyStream): Promise<void> {
    const sink = this.#output?.stream ?? nowhere();
    await pump(master, sink, {
      afterSinkError: "drop",
      onError: (error) => this.#logger.warn("error copying console", { error }),
      onChunk: (bytes) => {
        this.#copiedBytes += bytes;
      },
    });
    master.destroy();
    sink.destroy();
    this.#onChange();
  }

  // The end of a terminal's input hangs it up, as upstream does: a shell on it ends.
  async #copyIn(input: InputEnd, master: PtyStream): Promise<void> {
    await pump(input.stream, master, {
      afterSinkError: "stop",
      onError: (error) => this.#logger.warn("error copying console input", { error }),
    });
    input.release();
    input.stream.destroy();
    master.destroy();
    this.#onChange();
  }

  // A process that the ended one has left behind may keep the terminal open for ever. What the
  // ended one wrote is in the buffer by now: two rounds of the loop without a byte mean that it is
  // empty or that the client does not read.
  async #hangUpWhenQuiet(master: PtyStream): Promise<void> {
    let seen = -1;
    while (!master.destroyed && (seen !== this.#copiedBytes || this.#isBlocked())) {
      seen = this.#copiedBytes;
      if (this.#isBlocked()) await sleep(blockedPollMs);
      await turn();
      await turn();
    }
    master.destroy();
    this.#onChange();
  }

  #isBlocked(): boolean {
    return (this.#output?.stream.writableLength ?? 0) > 0;
  }
}

/** Where a terminal's output goes; the program is there for a `binary://`. */
interface TerminalOutput {
  readonly output: OutputEnd | undefined;
  readonly program: LoggerProgram | undefined;
}

async function openTerminalOutput(
  stdio: Stdio,
  target: OutputTarget,
  options: IoOptions,
): Promise<TerminalOutput> {
  const { sys } = options;
  if (target.kind === "binary") return startTerminalLogger(target, options);
  if (target.kind === "file") createLogFile(sys, target.path);
  const path = target.kind === "file" ? target.path : stdio.stdout;
  return { output: path === "" ? undefined : openOutput(sys, path), program: undefined };
}

/** A terminal has one output: what would be stderr has ended before it began. */
async function startTerminalLogger(
  target: OutputTarget & { kind: "binary" },
  options: IoOptions,
): Promise<TerminalOutput> {
  const { sys } = options;
  using stack = new DisposableStack();
  const [stdout, stderr] = [sys.pipe2(0), sys.pipe2(0)];
  for (const fd of [stdout.read, stderr.read, stderr.write]) stack.defer(() => sys.close(fd));
  using unused = new DisposableStack();
  unused.defer(() => sys.close(stdout.write));
  const program = await LoggerProgram.start(target, [stdout.read, stderr.read], options);
  unused.move();
  return { output: resumeOutput(sys, stdout.write, ""), program };
}

/** The client's ends go with the terminal. */
function own(end: OutputEnd | InputEnd | undefined, resources: DisposableStack): void {
  if (!end) return;
  // Each write hears of its failure itself.
  end.stream.on("error", () => {});
  resources.defer(() => {
    if ("release" in end) end.release();
    end.stream.destroy();
  });
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
