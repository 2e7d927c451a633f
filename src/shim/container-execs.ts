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
import { assertIdentifier } from "#pkg/identifier.ts";
import { formatLossless, parseLossless } from "#pkg/lossless-json.ts";
import { type ExecFiles, execFiles } from "./exec-files.ts";
import { openIo } from "./open-io.ts";
import type { OwedEvents } from "./owed-events.ts";
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
  readonly events: OwedEvents;
  /** Called when execs have changed, or events are owed; resolves when that is recorded. */
  readonly onChange: () => Promise<void>;
}

/** The additional processes of one container. */
export class ContainerExecs {
  readonly #services: ShimServices;
  readonly #config: ExecsConfig;
  readonly #locks = new KeyedMutex();
  readonly #execs = new Map<string, TaskProcess>();
  #running = 0;
  #idle = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(services: ShimServices, config: ExecsConfig) {
    this.#services = services;
    this.#config = config;
  }

  all(): TaskProcess[] {
    return [...this.#execs.values()];
  }

  /** Throws `not-found`. */
  get(execId: string): TaskProcess {
    const process = this.#execs.get(execId);
    if (process === undefined) throw notFound(`process does not exist ${execId}`);
    return process;
  }

  /**
   * Resolves when a successor would know the exec too. Throws `already-exists`, and
   * `invalid-argument` when the id or the process's JSON is none.
   */
  async add(execId: string, options: { spec: string; stdio: Stdio }): Promise<void> {
    assertIdentifier(execId);
    if (this.#execs.has(execId)) throw alreadyExists(`id ${execId}`);
    const { terminal } = options.stdio;
    const spec = formatLossless({ ...parseLossless(options.spec, "exec spec"), terminal });
    const process = this.#newProcess(execId, options.stdio);
    this.#execs.set(execId, process);
    using _lock = await this.#locks.acquire(execId);
    const { id: containerId, bundle, events, onChange } = this.#config;
    const file = execFiles(bundle, execId).process;
    try {
      // Before the record: one that is recorded can be started. A file without a record goes with
      // the supervisor.
      await writeFile(file, spec, { mode: 0o600 });
    } catch (error) {
      this.#execs.delete(execId);
      await rm(file, { force: true });
      throw new CodedError("unknown", `exec ${execId}: ${messageOf(error)}`, { cause: error });
    }
    this.#services.failpoints.hit("shim.exec-written");
    const added = events.owe({ topic: "/tasks/exec-added", containerId, execId });
    await onChange();
    this.#services.failpoints.hit("shim.exec-added");
    events.tell(added);
  }

  /** Takes in an exec that was never started. */
  takeOverAdded(execId: string, stdio: Stdio): void {
    this.#execs.set(execId, this.#newProcess(execId, stdio));
  }

  /** Takes in an exec that an earlier supervisor has started. */
  takeOver(execId: string, pid: number, stdio: Stdio): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.apply({ type: "started", pid });
    this.#execs.set(execId, process);
    this.#running += 1;
    return process;
  }

  /** Takes in one that has ended, and whose end was told. */
  takeOverEnded(execId: string, exit: Exit, stdio: Stdio): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.apply({ type: "exited", exit });
    this.#execs.set(execId, process);
    return process;
  }

  async start(execId: string): Promise<number> {
    using _lock = await this.#locks.acquire(execId);
    const process = this.get(execId);
    process.assertAllowed("start");
    const { id: containerId, events, onChange } = this.#config;
    if (this.#isClosed) {
      throw failedPrecondition(`container ${containerId} init process is not running`);
    }
    this.#running += 1;
    using _hold = process.hold();
    let pid: number;
    try {
      pid = await this.#run(process);
    } catch (error) {
      process.failed();
      this.#ended();
      throw error;
    }
    process.apply({ type: "started", pid });
    const started = events.owe({ topic: "/tasks/exec-started", containerId, execId, pid });
    await onChange();
    this.#services.failpoints.hit("shim.exec-kept");
    await this.#removeFiles(execId, ["starting", "log", "process"]);
    // After the record: without one nobody would take over what is handed over.
    process.changed();
    events.tell(started);
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
    await this.#removeFiles(execId, ["pid"]);
    process.apply({ type: "deleted" });
    this.#execs.delete(execId);
    // Before the answer: else a successor would have it still, and its name would not be free.
    await this.#config.onChange();
    // After the record: what is recorded as added can be started.
    await this.#removeFiles(execId, ["process"]);
    this.#services.failpoints.hit("shim.exec-deleted");
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
    for (const process of this.#execs.values()) await process.io?.close();
  }

  #newProcess(execId: string, stdio: Stdio): TaskProcess {
    const name = { containerId: this.#config.id, execId };
    const process = new TaskProcess(name, stdio, {
      exit: (exit) => this.#exited(process, exit),
      endsChanged: () => this.#services.handover?.changed(process),
    });
    return process;
  }

  async #run(process: TaskProcess): Promise<number> {
    const { bundle, runtime, id } = this.#config;
    const { reaper } = this.#services;
    const files = execFiles(bundle, process.id);
    const io = await this.#openIo(process);
    const mark = reaper.mark();
    try {
      await writeFile(files.starting, "", { mode: 0o600 });
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
      await Promise.all([io.close(), this.#removeFiles(process.id, ["starting", "log"])]);
      throw error;
    }
  }

  async #removeFiles(execId: string, which: readonly (keyof ExecFiles)[]): Promise<void> {
    const files = execFiles(this.#config.bundle, execId);
    await Promise.all(which.map((name) => rm(files[name], { force: true })));
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
    const { id: containerId, events, onChange } = this.#config;
    const told = events.owe({ topic: "/tasks/exit", containerId, id: process.id, exit });
    this.#services.tasks.go(async () => {
      await onChange();
      this.#services.failpoints.hit("shim.exec-ended");
      events.tell(told);
      // Only now: the end of the container is told after those of its execs.
      this.#ended();
      process.releasePidfd();
    });
  }

  #ended(): void {
    this.#running -= 1;
    if (this.#running === 0) this.#idle.resolve();
  }
}
