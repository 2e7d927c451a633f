import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, notFound } from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { parseLossless } from "#pkg/lossless-json.ts";
import type { WindowSize } from "#pkg/sys/syscall.ts";
import { type Cgroup, cgroupOf } from "#core/cgroups/cgroup.ts";
import { isFrozen } from "#core/cgroups/freezer.ts";
import { ContainerExecs } from "./container-execs.ts";
import { writeExitRecord } from "./exit-record.ts";
import { OomWatch } from "./oom-watch.ts";
import { OwedEvents } from "./owed-events.ts";
import { drain, type ProcessIo, settlesWithin } from "./process-io.ts";
import { type Exit, type ProcessState, pidOf } from "./process-state.ts";
import { keepPidfd, watchProcess } from "./process-watch.ts";
import { RecordKeeper } from "./record-keeper.ts";
import { rootfsOf, unmountBelow } from "./rootfs.ts";
import type { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import type { Stdio } from "./stdio.ts";
import { TaskProcess } from "./task-process.ts";
import { type ProcessRecord, recordProcess, type TaskRecord } from "./task-record.ts";

const SIGKILL = 9;
const lastExitTimeoutMs = 10_000;
/** Of an event that is the last of its container: a daemon that is away is not waited for. */
const toldTimeoutMs = 1_000;

export interface ContainerConfig {
  readonly id: string;
  readonly bundle: string;
  readonly stdio: Stdio;
  readonly runtime: RuntimeCli;
  readonly ioUid: number;
  readonly ioGid: number;
  readonly hasRootfs: boolean;
  readonly hasOwnPidNamespace: boolean;
}

/**
 * A container that the runtime has made: its first process and the execs.
 *
 * What is announced comes in this order: create, start, each exec's added, started and exit, the
 * exit of the first process, delete. The first process's exit is therefore told only after those of
 * the execs.
 */
export class Container {
  readonly id: string;
  readonly bundle: string;
  readonly init: TaskProcess;
  readonly execs: ContainerExecs;
  readonly events: OwedEvents;
  readonly #config: ContainerConfig;
  readonly #services: ShimServices;
  readonly #locks = new KeyedMutex();
  /** True as soon as the kernel has reported the exit, before the state says so. */
  #hasEnded = false;
  #cgroup: Cgroup | undefined;
  #oom: OomWatch | undefined;
  #oomTold: Promise<void> = Promise.resolve();
  #phase: TaskRecord["phase"] = "created";
  readonly #keeper: RecordKeeper;
  /** It has not come to be: what there was of it is gone, and its end is nobody's. */
  #isUndone = false;

  constructor(services: ShimServices, config: ContainerConfig) {
    this.id = config.id;
    this.bundle = config.bundle;
    this.#services = services;
    this.#config = config;
    const { logger, failpoints } = services;
    const record = (): TaskRecord => this.record();
    this.#keeper = new RecordKeeper({ bundle: config.bundle, record, logger, failpoints });
    this.init = new TaskProcess({ containerId: config.id, execId: "" }, config.stdio, {
      exit: (exit) => {
        this.#hasEnded = true;
        if (this.#isUndone) return;
        services.tasks.go(() => this.#exited(exit));
      },
      endsChanged: (process) => services.handover?.changed(process),
    });
    const publish = services.publish;
    // Without a hand-over there is no successor that would tell it again.
    const onSettled = (): void => {
      if (services.handover) this.#keeper.saveSoon();
    };
    this.events = new OwedEvents({ publish, onSettled });
    this.execs = new ContainerExecs(services, {
      ...config,
      events: this.events,
      keeper: this.#keeper,
    });
  }

  /** Where the first process was when it was made. Throws `not-found`. */
  get cgroup(): Cgroup {
    if (this.#cgroup === undefined) throw notFound("cgroup does not exist");
    return this.#cgroup;
  }

  get runtime(): RuntimeCli {
    return this.#config.runtime;
  }

  /** `execId` empty is the first process. Throws `not-found`. */
  process(execId: string): TaskProcess {
    return execId === "" ? this.init : this.execs.get(execId);
  }

  /** The status as clients see it: an exec is as paused as its container. */
  statusOf(process: TaskProcess): ProcessState["status"] {
    const { status } = this.init.state;
    return status === "paused" || status === "pausing" ? status : process.state.status;
  }

  async start(): Promise<number> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("start");
    using _hold = this.init.hold();
    await this.runtime.start(this.id);
    this.#services.failpoints.hit("shim.start-made");
    const pid = pidOf(this.init.state);
    this.init.apply({ type: "started", pid });
    const started = this.events.owe({ topic: "/tasks/start", containerId: this.id, pid });
    await this.#enter("running");
    this.#services.failpoints.hit("shim.start-kept");
    this.events.tell(started);
    return pid;
  }

  async addExec(execId: string, options: { spec: string; stdio: Stdio }): Promise<void> {
    this.init.assertAllowed("exec");
    await this.execs.add(execId, options);
  }

  async kill(signal: number, scope: "init" | "all"): Promise<void> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("kill");
    if (this.#hasEnded) throw notFound("process already finished");
    try {
      await this.runtime.kill(this.id, signal, scope, "unknown error after kill");
    } catch (error) {
      // The runtime may have found it gone; what counts is what the kernel has told us.
      if (this.#isGone()) throw notFound("process already finished", { cause: error });
      throw error;
    }
  }

  async pause(): Promise<void> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("pause");
    this.init.apply({ type: "pausing" });
    try {
      await this.runtime.pause(this.id);
    } catch (error) {
      this.init.apply({ type: "pause-failed" });
      throw error;
    }
    this.#services.failpoints.hit("shim.pause-made");
    await this.#paused();
  }

  async resume(): Promise<void> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("resume");
    await this.runtime.resume(this.id);
    this.#services.failpoints.hit("shim.resume-made");
    await this.#resumed();
  }

  async #paused(): Promise<void> {
    this.init.apply({ type: "paused" });
    const paused = this.events.owe({ topic: "/tasks/paused", containerId: this.id });
    await this.#enter("paused");
    this.events.tell(paused);
  }

  async #resumed(): Promise<void> {
    this.init.apply({ type: "resumed" });
    const resumed = this.events.owe({ topic: "/tasks/resumed", containerId: this.id });
    await this.#enter("running");
    this.events.tell(resumed);
  }

  /** `resources` is the JSON of the specification's LinuxResources. */
  async update(resources: string): Promise<void> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("update");
    parseLossless(resources, "resources");
    const file = join(this.bundle, ".resources.json");
    await writeFile(file, resources, { mode: 0o600 });
    try {
      await this.runtime.update(this.id, file);
    } finally {
      await rm(file, { force: true });
    }
  }

  async pids(ctx: Context): Promise<{ pid: number; execId: string }[]> {
    using _lock = await this.#locks.acquire("", ctx.signal);
    const pids = await this.#processes(ctx);
    const execs = new Map(this.execs.all().map((exec) => [pidOf(exec.state), exec.id]));
    return pids.map((pid) => ({ pid, execId: execs.get(pid) ?? "" }));
  }

  resize(execId: string, size: WindowSize): void {
    const process = this.process(execId);
    if (execId !== "") process.assertAllowed("resize");
    process.io?.resize(size);
  }

  /**
   * The container is gone from the runtime and from the disk but for its bundle; its rootfs is
   * unmounted.
   */
  async delete(): Promise<Exit | undefined> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("delete");
    if (this.init.state.status === "created") await this.#endUnstarted();
    const { logger, sys, failpoints } = this.#services;
    await Promise.all([drain(this.init, logger), this.runtime.delete(this.id, "stopped")]);
    failpoints.hit("shim.delete-made");
    await this.init.io?.close();
    await this.execs.closeStreams();
    if (this.#config.hasRootfs) {
      try {
        await unmountBelow(sys, rootfsOf(this.bundle));
      } catch (error) {
        const text = `failed rootfs umount: ${messageOf(error)}`;
        throw new CodedError("unknown", text, { cause: error });
      }
    }
    failpoints.hit("shim.delete-unmounted");
    await this.#keeper.remove();
    failpoints.hit("shim.delete-kept");
    this.init.apply({ type: "deleted" });
    const { exit } = this.init;
    const told = exit ?? { pid: 0, status: 0, at: 0n };
    // Its record is gone: until somebody is answered, whoever finds none tells what there is to
    // tell; and later nobody would. A daemon that is there has it in a moment.
    const deleted = { topic: "/tasks/delete", containerId: this.id, exit: told } as const;
    await settlesWithin(this.events.tellUnrecorded(deleted), toldTimeoutMs);
    return exit;
  }

  /**
   * After the runtime's create: the pid is known, the streams are copied, the exit is awaited.
   *
   * Rejects when it cannot be recorded: a successor would take the creation for cut short, and end
   * it. Then `undone` is to be called.
   */
  async created(pid: number, mark: number, io: ProcessIo): Promise<void> {
    this.init.created(recordProcess(pid));
    this.init.io = io;
    this.#accountTo(cgroupOf(pid));
    keepPidfd(this.#services, this.init, pid);
    watchProcess(this.#services, pid, mark, (exit) => this.init.reportExit(exit));
    await this.#keeper.save();
    // After the record: without one nobody would take over what is handed over.
    this.init.changed();
  }

  /** Nothing more is heard of it. */
  async undone(): Promise<void> {
    this.#isUndone = true;
    this.#oom?.[Symbol.dispose]();
    await this.#keeper.close();
    this.init.releasePidfd();
  }

  /** In a supervisor that did not make it: where the record of the one before says it stands. */
  takeOver(
    init: ProcessRecord,
    phase: "created" | "running" | "paused",
    oomKills: string | undefined,
  ): void {
    const { pid } = init;
    this.#phase = phase;
    this.init.created(init);
    this.#accountTo(cgroupOf(pid), oomKills);
    if (phase === "created") return;
    this.init.apply({ type: "started", pid });
    if (phase === "running") return;
    this.init.apply({ type: "pausing" });
    this.init.apply({ type: "paused" });
  }

  /** The supervisor before had it started, and neither recorded nor told so. */
  async foundStarted(pid: number): Promise<void> {
    this.init.apply({ type: "started", pid });
    const started = this.events.owe({ topic: "/tasks/start", containerId: this.id, pid });
    await this.#enter("running");
    this.events.tell(started);
  }

  /** Tells of processes that were killed while nobody looked. */
  lookForOom(): void {
    this.#oom?.check();
  }

  /** As `foundStarted`, of having paused or resumed it. */
  async foundFreezer(): Promise<void> {
    const { status } = this.init.state;
    const frozen = this.#cgroup && isFrozen(this.#cgroup);
    if (status === "running" && frozen === true) {
      this.init.apply({ type: "pausing" });
      await this.#paused();
    }
    if (status === "paused" && frozen === false) await this.#resumed();
  }

  record(): TaskRecord {
    const { path, name, root, systemdCgroup } = this.runtime.settings;
    return {
      version: 1,
      id: this.id,
      namespace: this.#services.namespace,
      group: this.#services.group,
      phase: this.#phase,
      runtime: { path, name, root, systemdCgroup },
      stdio: this.#config.stdio,
      hasRootfs: this.#config.hasRootfs,
      hasOwnPidNamespace: this.#config.hasOwnPidNamespace,
      init: this.init.record,
      owed: this.events.records(),
      ...(this.#oom && { oomKills: String(this.#oom.killsSeen) }),
      ...this.execs.records(),
    };
  }

  #accountTo(cgroup: Cgroup | undefined, oomKills?: string): void {
    this.#cgroup = cgroup;
    if (cgroup === undefined) return;
    const { logger, tasks } = this.#services;
    const onOom = (): void => {
      const told = this.events.owe({ topic: "/tasks/oom", containerId: this.id });
      // Together with the count, or a successor would tell of it again.
      this.#oomTold = this.#keeper.trySave().then(() => this.events.tell(told));
      tasks.go(() => this.#oomTold);
    };
    const seen = oomKills === undefined ? undefined : BigInt(oomKills);
    this.#oom = new OomWatch(cgroup, { logger, onOom, seen });
  }

  /** Ends a container that was never started; its exit is told before the deletion. */
  async #endUnstarted(): Promise<void> {
    await this.runtime.delete(this.id, "force");
    const ended = this.init.wait(this.#services.ctx);
    if (!(await settlesWithin(ended, lastExitTimeoutMs))) {
      throw new CodedError("deadline-exceeded", `process of container ${this.id} did not end`);
    }
  }

  async #exited(exit: Exit): Promise<void> {
    const { logger } = this.#services;
    // Told before the exit that it explains.
    this.#oom?.check();
    this.#oom?.[Symbol.dispose]();
    await this.#oomTold;
    if (!this.#config.hasOwnPidNamespace) await this.#killAll();
    await this.execs.closeAndWait();
    try {
      await writeExitRecord(this.bundle, exit);
    } catch (error) {
      logger.error("failed to store exit status in bundle", { error, id: this.id });
    }
    this.init.releasePidfd();
    if (this.init.state.status === "paused") await this.#thaw();
    this.init.apply({ type: "exited", exit });
    this.init.io?.processExited();
    // A successor that finds the exit recorded tells it, whether it was told or not.
    void this.events.tellUnrecorded({
      topic: "/tasks/exit",
      containerId: this.id,
      id: this.id,
      exit,
    });
  }

  // As runc says it; crun ends by a signal when it is asked for a container that has ended.
  async #processes(ctx: Context): Promise<number[]> {
    if (this.init.exit) return [];
    try {
      return await this.runtime.ps(ctx, this.id);
    } catch (error) {
      if (this.#isGone()) return [];
      throw error;
    }
  }

  // A method, so that the compiler does not take the answer from before an await for still true.
  #isGone(): boolean {
    return this.#hasEnded;
  }

  // The others live on in a shared pid namespace, and would go on in a container that has ended.
  async #killAll(): Promise<void> {
    try {
      await this.runtime.kill(this.id, SIGKILL, "all", "OCI runtime killall failed");
    } catch (error) {
      this.#services.logger.error("failed to kill init's children", { error, id: this.id });
    }
  }

  // A frozen cgroup cannot be removed.
  async #thaw(): Promise<void> {
    try {
      await this.runtime.resume(this.id);
    } catch (error) {
      this.#services.logger.error("resuming exited container from paused state", { error });
    }
  }

  async #enter(phase: TaskRecord["phase"]): Promise<void> {
    this.#phase = phase;
    await this.#keeper.trySave();
  }
}
