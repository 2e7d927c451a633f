import { Writable } from "node:stream";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "#pkg/log.ts";
import type { Context } from "#pkg/context.ts";
import { PtyStream } from "#pkg/sys/pty-stream.ts";
import type { Syscalls, WindowSize } from "#pkg/sys/syscall.ts";
import {
  createLogFile,
  type InputEnd,
  openInput,
  openOutput,
  type OutputEnd,
} from "./client-io.ts";
import { ConsoleSocket } from "./console-socket.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import { pump } from "./pump.ts";
import type { OutputTarget, Stdio } from "./stdio.ts";

const blockedPollMs = 20;

/**
 * A terminal: the runtime makes it and hands over its master, which is copied to and from the
 * client's FIFOs.
 */
export class TerminalIo implements ProcessIo {
  readonly childStdio = undefined;
  readonly #sys: Syscalls;
  readonly #logger: Logger;
  readonly #ctx: Context;
  readonly #socket: ConsoleSocket;
  readonly #resources: DisposableStack;
  readonly #output: OutputEnd | undefined;
  readonly #input: InputEnd | undefined;
  #master: { readonly fd: number; readonly stream: PtyStream } | undefined;
  #copied: Promise<void> = Promise.resolve();
  #copiedBytes = 0;
  #closed = false;

  private constructor(
    options: { sys: Syscalls; logger: Logger; ctx: Context },
    parts: {
      socket: ConsoleSocket;
      resources: DisposableStack;
      output: OutputEnd | undefined;
      input: InputEnd | undefined;
    },
  ) {
    this.#sys = options.sys;
    this.#logger = options.logger;
    this.#ctx = options.ctx;
    this.#socket = parts.socket;
    this.#resources = parts.resources;
    this.#output = parts.output;
    this.#input = parts.input;
  }

  get consoleSocket(): string {
    return this.#socket.path;
  }

  static async open(
    stdio: Stdio,
    target: OutputTarget & { kind: "none" | "path" | "file" },
    options: { sys: Syscalls; logger: Logger; ctx: Context },
  ): Promise<TerminalIo> {
    const { sys } = options;
    using resources = new DisposableStack();
    if (target.kind === "file") await createLogFile(sys, target.path);
    const path = target.kind === "file" ? target.path : stdio.stdout;
    const output = path === "" ? undefined : openOutput(sys, path);
    if (output) {
      output.stream.on("error", () => {});
      resources.defer(() => output.stream.destroy());
    }
    const input = stdio.stdin === "" ? undefined : openInput(sys, stdio.stdin);
    if (input) {
      resources.defer(() => {
        input.release();
        input.stream.destroy();
      });
    }
    const socket = await ConsoleSocket.open(sys);
    return new TerminalIo(options, { socket, output, input, resources: resources.move() });
  }

  async start(): Promise<void> {
    const fd = await this.#socket.receiveMaster(this.#ctx);
    await this.#socket[Symbol.asyncDispose]();
    if (this.#closed) {
      this.#sys.close(fd);
      return;
    }
    const stream = new PtyStream(this.#sys, fd);
    this.#master = { fd, stream };
    this.#resources.defer(() => stream.destroy());
    this.#copied = this.#copyOut(stream);
    if (this.#input) void this.#copyIn(this.#input, stream);
  }

  closeStdin(): void {
    this.#input?.release();
  }

  resize(size: WindowSize): void {
    if (this.#master && !this.#master.stream.destroyed) {
      this.#master.stream.resize(size);
    }
  }

  processExited(): void {
    if (this.#master) void this.#hangUpWhenQuiet(this.#master.stream);
  }

  drain(timeoutMs: number): Promise<boolean> {
    return settlesWithin(this.#copied, timeoutMs);
  }

  ends(): IoEnd[] {
    if (this.#closed) return [];
    const ends: IoEnd[] = [];
    if (this.#master) ends.push({ role: "terminal", fd: this.#master.fd });
    if (this.#output) ends.push({ role: "client-stdout", fd: this.#output.fd });
    if (this.#input) ends.push({ role: "client-stdin", fd: this.#input.fd });
    return ends;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#resources.dispose();
    await this.#socket[Symbol.asyncDispose]();
    await this.#copied;
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
  }

  #isBlocked(): boolean {
    return (this.#output?.stream.writableLength ?? 0) > 0;
  }
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
