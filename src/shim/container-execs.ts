import { rm, writeFile } from "node:fs/promises";
import {
  alreadyExists,
  CodedError,
  failedPrecondition,
  isErrno,
  messageOf,
  notFound,
} from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { execFiles } from "./exec-files.ts";
import { formatLossless, parseLossless } from "#pkg/lossless-json.ts";
import { openIo } from "./open-io.ts";
import { drain, type ProcessIo } from "./process-io.ts";
import { type Exit, pidOf } from "./process-state.ts";
import { keepPidfd, readPidFile, watchProcess } from "./process-watch.ts";
import type { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import type { Stdio } from "./stdio.ts";
import { TaskProcess } from "./task-process.ts";

export interface ExecsConfig {
  readonly id: string;
  readonly bundle: string;
  readonly runtime: RuntimeCli;
  readonly ioUid: number;
  readonly ioGid: number;
  /** Called when the set of running execs has changed; resolves when that is recorded. */
  readonly onChange: () => Promise<void>;
}

interface Exec {
  readonly process: TaskProcess;
  /** The process of the specification, as JSON. */
  readonly spec: string;
}

/** The additional processes of one container. */
export class ContainerExecs {
  readonly #services: ShimServices;
  readonly #config: ExecsConfig;
  readonly #locks = new KeyedMutex();
  readonly #execs = new Map<string, Exec>();
  #running = 0;
  #idle = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(services: ShimServices, config: ExecsConfig) {
    this.#services = services;
    this.#config = config;
  }

  all(): TaskProcess[] {
    return [...this.#execs.values()].map(({ process }) => process);
  }

  /** Throws `not-found`. */
  get(execId: string): TaskProcess {
    return this.#get(execId).process;
  }

  /** Throws `already-exists`, and `invalid-argument` when the process's JSON is none. */
  add(execId: string, options: { spec: string; stdio: Stdio }): void {
    if (this.#execs.has(execId)) throw alreadyExists(`id ${execId}`);
    const { terminal } = options.stdio;
    const spec = formatLossless({ ...parseLossless(options.spec, "exec spec"), terminal });
    this.#execs.set(execId, { process: this.#newProcess(execId, options.stdio), spec });
    const { id: containerId } = this.#config;
    this.#services.publish({ topic: "/tasks/exec-added", containerId, execId });
  }

  /** Takes in an exec that an earlier supervisor has started. */
  takeOver(execId: string, pid: number, stdio: Stdio): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.apply({ type: "started", pid });
    this.#execs.set(execId, { process, spec: "" });
    this.#running += 1;
    return process;
  }

  /** Takes in one that has ended, and whose end was told. */
  takeOverEnded(execId: string, exit: Exit, stdio: Stdio): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.apply({ type: "exited", exit });
    this.#execs.set(execId, { process, spec: "" });
    return process;
  }

  async start(execId: string): Promise<number> {
    const exec = this.#get(execId);
    const { process } = exec;
    using _lock = await this.#locks.acquire(execId);
    process.assertAllowed("start");
    const { id: containerId, onChange } = this.#config;
    if (this.#isClosed) {
      throw failedPrecondition(`container ${containerId} init process is not running`);
    }
    this.#running += 1;
    using _hold = process.hold();
    let pid: number;
    try {
      pid = await this.#run(exec);
    } catch (error) {
      process.failed();
      this.#ended();
      throw error;
    }
    process.apply({ type: "started", pid });
    await onChange();
    this.#services.failpoints.hit("shim.exec-kept");
    await this.#removeFiles(execId);
    // After the record: without one nobody would take over what is handed over.
    process.changed();
    this.#services.publish({ topic: "/tasks/exec-started", containerId, execId, pid });
    return pid;
  }

  kill(execId: string, signal: number): void {
    const process = this.get(execId);
    process.assertAllowed("kill");
    if (process.exit) throw notFound("process already finished");
    const pid = pidOf(process.state);
    if (pid === 0) throw failedPrecondition("process not created");
    try {
      this.#services.sys.kill(pid, signal);
    } catch (error) {
      if (isErrno(error, "ESRCH")) {
        throw notFound("exec kill error: process already finished", { cause: error });
      }
      const text = `exec kill error: unknown error after kill: ${messageOf(error)}`;
      throw new CodedError("unknown", text, { cause: error });
    }
  }

  async delete(execId: string): Promise<Exit | undefined> {
    const process = this.get(execId);
    using _lock = await this.#locks.acquire(execId);
    process.assertAllowed("delete");
    await drain(process, this.#services.logger);
    await process.io?.close();
    await rm(execFiles(this.#config.bundle, execId).pid, { force: true });
    process.apply({ type: "deleted" });
    this.#execs.delete(execId);
    this.#services.tasks.go(this.#config.onChange);
    return process.exit;
  }

  /**
   * No exec is started from now on. Resolves when none runs any more and all their exits are told.
   */
  async closeAndWait(): Promise<void> {
    this.#isClosed = true;
    while (this.#running > 0) {
      this.#idle = Promise.withResolvers<void>();
      await this.#idle.promise;
    }
  }

  async closeStreams(): Promise<void> {
    for (const { process } of this.#execs.values()) await process.io?.close();
  }

  #get(execId: string): Exec {
    const exec = this.#execs.get(execId);
    if (exec === undefined) throw notFound(`process does not exist ${execId}`);
    return exec;
  }

  #newProcess(execId: string, stdio: Stdio): TaskProcess {
    const name = { containerId: this.#config.id, execId };
    const process = new TaskProcess(name, stdio, {
      exit: (exit) => this.#exited(process, exit),
      endsChanged: () => this.#services.handover?.changed(process),
    });
    return process;
  }

  async #run({ process, spec }: Exec): Promise<number> {
    const { bundle, runtime, id } = this.#config;
    const { reaper } = this.#services;
    const files = execFiles(bundle, process.id);
    const io = await this.#openIo(process);
    const mark = reaper.mark();
    try {
      await writeFile(files.process, spec, { mode: 0o600 });
      this.#services.failpoints.hit("shim.exec-called");
      const { consoleSocket, childStdio: stdio } = io;
      await runtime.exec(id, {
        processFile: files.process,
        pidFile: files.pid,
        log: files.log,
        consoleSocket,
        stdio,
      });
      this.#services.failpoints.hit("shim.exec-made");
      await io.start();
      const pid = await readPidFile(files.pid, "failed to retrieve OCI runtime exec pid");
      process.io = io;
      keepPidfd(this.#services, process, pid);
      watchProcess(this.#services, pid, mark, (exit) => process.reportExit(exit));
      return pid;
    } catch (error) {
      await Promise.all([io.close(), this.#removeFiles(process.id)]);
      throw error;
    }
  }

  /** All but the pid file, which stays as long as the exec. */
  async #removeFiles(execId: string): Promise<void> {
    const { process, log } = execFiles(this.#config.bundle, execId);
    await Promise.all([rm(process, { force: true }), rm(log, { force: true })]);
  }

  async #openIo(process: TaskProcess): Promise<ProcessIo> {
    const { id: containerId, ioUid, ioGid } = this.#config;
    try {
      const onChange = (): void => process.changed();
      const options = { ...this.#services, containerId, ioUid, ioGid, onChange };
      return await openIo(process.stdio, options);
    } catch (error) {
      const text = `failed to create init process I/O: ${messageOf(error)}`;
      throw new CodedError("unknown", text, { cause: error });
    }
  }

  #exited(process: TaskProcess, exit: Exit): void {
    process.apply({ type: "exited", exit });
    process.io?.processExited();
    const { id: containerId, onChange } = this.#config;
    this.#services.publish({ topic: "/tasks/exit", containerId, id: process.id, exit });
    this.#ended();
    this.#services.tasks.go(async () => {
      await onChange();
      this.#services.failpoints.hit("shim.exec-ended");
      process.releasePidfd();
    });
  }

  #ended(): void {
    this.#running -= 1;
    if (this.#running === 0) this.#idle.resolve();
  }
}
