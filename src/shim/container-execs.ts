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
import type { RecordKeeper } from "./record-keeper.ts";
import type { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import type { Stdio } from "./stdio.ts";
import { TaskProcess } from "./task-process.ts";
import {
  type AddedExecRecord,
  type ExecRecord,
  type ProcessRecord,
  recordProcess,
} from "./task-record.ts";

const SIGKILL = 9;

export interface ExecsConfig {
  readonly id: string;
  readonly bundle: string;
  readonly runtime: RuntimeCli;
  readonly ioUid: number;
  readonly ioGid: number;
  readonly events: OwedEvents;
  /** Of the container's record, which names the execs and the events that are owed. */
  readonly keeper: Pick<RecordKeeper, "save" | "trySave">;
}

/** The additional processes of one container. */
export class ContainerExecs {
  readonly #services: ShimServices;
  readonly #config: ExecsConfig;
  readonly #locks = new KeyedMutex();
  readonly #execs = new Map<string, TaskProcess>();
  /** Ids that are taken, of execs which nobody can reach yet. */
  readonly #adding = new Set<string>();
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

  records(): { readonly added: AddedExecRecord[]; readonly execs: ExecRecord[] } {
    const added: AddedExecRecord[] = [];
    const execs: ExecRecord[] = [];
    for (const { id, stdio, record, exit } of this.#execs.values()) {
      const ended = exit && { status: exit.status, at: String(exit.at) };
      if (record === undefined) added.push({ id, stdio });
      else execs.push({ id, stdio, ...record, ...(ended && { exit: ended }) });
    }
    return { added, execs };
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
    if (this.#execs.has(execId) || this.#adding.has(execId)) throw alreadyExists(`id ${execId}`);
    const { terminal } = options.stdio;
    const spec = formatLossless({ ...parseLossless(options.spec, "exec spec"), terminal });
    this.#adding.add(execId);
    try {
      using _lock = await this.#locks.acquire(execId);
      await this.#add(execId, spec, options.stdio);
    } catch (error) {
      throw new CodedError("unknown", `exec ${execId}: ${messageOf(error)}`, { cause: error });
    } finally {
      this.#adding.delete(execId);
    }
  }

  /** Takes in an exec that was never started. */
  takeOverAdded(execId: string, stdio: Stdio): void {
    this.#execs.set(execId, this.#newProcess(execId, stdio));
  }

  /** Takes in an exec that an earlier supervisor has started. */
  takeOver(execId: string, record: ProcessRecord, stdio: Stdio): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.started(record);
    this.#execs.set(execId, process);
    this.#running += 1;
    return process;
  }

  /** Takes in one that has ended, and whose end was told. */
  takeOverEnded(
    execId: string,
    { record, exit }: { readonly record: ProcessRecord; readonly exit: Exit },
    stdio: Stdio,
  ): TaskProcess {
    const process = this.#newProcess(execId, stdio);
    process.takeOverEnded(record, exit);
    this.#execs.set(execId, process);
    return process;
  }

  async start(execId: string): Promise<number> {
    using _lock = await this.#locks.acquire(execId);
    const process = this.get(execId);
    process.assertAllowed("start");
    const { id: containerId, events, keeper } = this.#config;
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
    const started = events.owe({ topic: "/tasks/exec-started", containerId, execId, pid });
    try {
      await keeper.save();
    } catch (error) {
      // A successor would take the start for cut short, and end the process: nobody is to be told
      // that it runs.
      this.#killUnrecorded(process);
      events.tell(started);
      const text = `exec ${execId}: ${messageOf(error)}`;
      throw new CodedError("unknown", text, { cause: error });
    }
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
      process.signal(this.#services.sys, signal);
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
    await this.#removeFiles(execId, ["pid", "starting", "log"]);
    process.apply({ type: "deleted" });
    this.#execs.delete(execId);
    // Before the answer: else a successor would have it still, and its name would not be free.
    const isRecorded = await this.#config.keeper.trySave();
    // After the record: what is recorded as added can be started.
    if (isRecorded) await this.#removeFiles(execId, ["process"]);
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

  #killUnrecorded(process: TaskProcess): void {
    try {
      process.signal(this.#services.sys, SIGKILL);
    } catch (error) {
      if (!isErrno(error, "ESRCH")) throw error;
    }
  }

  async #add(execId: string, spec: string, stdio: Stdio): Promise<void> {
    const { id: containerId, bundle, events, keeper } = this.#config;
    await using undo = new AsyncDisposableStack();
    const file = execFiles(bundle, execId).process;
    undo.defer(() => rm(file, { force: true }));
    // Before the record: one that is recorded can be started. A file without a record goes with
    // the supervisor.
    await writeFile(file, spec, { mode: 0o600 });
    this.#services.failpoints.hit("shim.exec-written");
    this.#execs.set(execId, this.#newProcess(execId, stdio));
    undo.defer(() => void this.#execs.delete(execId));
    const added = events.owe({ topic: "/tasks/exec-added", containerId, execId });
    undo.defer(() => events.drop(added));
    await keeper.save();
    this.#services.failpoints.hit("shim.exec-added");
    undo.move();
    events.tell(added);
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
      const record = recordProcess(pid);
      process.io = io;
      keepPidfd(this.#services, process, pid);
      watchProcess(this.#services, pid, mark, (exit) => process.reportExit(exit));
      process.started(record);
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
    const { id: containerId, events, keeper } = this.#config;
    const told = events.owe({ topic: "/tasks/exit", containerId, id: process.id, exit });
    this.#services.tasks.go(async () => {
      await keeper.trySave();
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
