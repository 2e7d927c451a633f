import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, notFound } from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { parseLossless } from "#pkg/lossless-json.ts";
import type { WindowSize } from "#pkg/sys/syscall.ts";
import { type Cgroup, cgroupOf } from "#core/cgroups/cgroup.ts";
import { ContainerExecs } from "./container-execs.ts";
import { writeExitRecord } from "./exit-record.ts";
import { OomWatch } from "./oom-watch.ts";
import { OwedEvents } from "./owed-events.ts";
import { readPipes, readProcStat } from "./proc.ts";
import { drain, type ProcessIo, settlesWithin } from "./process-io.ts";
import { type Exit, type ProcessState, pidOf } from "./process-state.ts";
import { keepPidfd, watchProcess } from "./process-watch.ts";
import { rootfsOf, unmountBelow } from "./rootfs.ts";
import type { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import type { Stdio } from "./stdio.ts";
import { TaskProcess } from "./task-process.ts";
import {
  type ProcessRecord,
  removeTaskRecord,
  type TaskRecord,
  writeTaskRecord,
} from "./task-record.ts";

const SIGKILL = 9;
const lastExitTimeoutMs = 10_000;
/** For what may wait, since a successor would only tell the daemon what it has heard already. */
const saveSoonMs = 100;

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
  #phase: TaskRecord["phase"] = "created";
  #saving: Promise<void> = Promise.resolve();
  /** The last of `#saving`, while it has not begun. */
  #nextSave: Promise<void> | undefined;
  #saveTimer: NodeJS.Timeout | undefined;
  #isDeleted = false;

  constructor(services: ShimServices, config: ContainerConfig) {
    this.id = config.id;
    this.bundle = config.bundle;
    this.#services = services;
    this.#config = config;
    this.init = new TaskProcess({ containerId: config.id, execId: "" }, config.stdio, {
      exit: (exit) => {
        this.#hasEnded = true;
        services.tasks.go(() => this.#exited(exit));
      },
      endsChanged: (process) => services.handover?.changed(process),
    });
    const publish = services.publish;
    this.events = new OwedEvents({ publish, onSettled: () => this.#saveSoon() });
    const { events } = this;
    this.execs = new ContainerExecs(services, { ...config, events, onChange: () => this.#save() });
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
    this.init.apply({ type: "paused" });
    const paused = this.events.owe({ topic: "/tasks/paused", containerId: this.id });
    await this.#enter("paused");
    this.events.tell(paused);
  }

  async resume(): Promise<void> {
    using _lock = await this.#locks.acquire("");
    this.init.assertAllowed("resume");
    await this.runtime.resume(this.id);
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
    this.#isDeleted = true;
    clearTimeout(this.#saveTimer);
    await this.#saving;
    await removeTaskRecord(this.bundle);
    failpoints.hit("shim.delete-kept");
    this.init.apply({ type: "deleted" });
    const { exit } = this.init;
    const told = exit ?? { pid: 0, status: 0, at: 0n };
    // Its record is gone: whoever finds none tells what there is to tell.
    this.events.tellUnrecorded({ topic: "/tasks/delete", containerId: this.id, exit: told });
    return exit;
  }

  /** After the runtime's create: the pid is known, the streams are copied, the exit is awaited. */
  async created(pid: number, mark: number, io: ProcessIo): Promise<void> {
    this.init.created(pid);
    this.init.io = io;
    this.#accountTo(cgroupOf(pid));
    keepPidfd(this.#services, this.init, pid);
    watchProcess(this.#services, pid, mark, (exit) => this.init.reportExit(exit));
    await this.#save();
    // After the record: without one nobody would take over what is handed over.
    this.init.changed();
  }

  /** In a supervisor that did not make it: where the record of the one before says it stands. */
  takeOver(pid: number, phase: "created" | "running" | "paused"): void {
    this.#phase = phase;
    this.init.created(pid);
    this.#accountTo(cgroupOf(pid));
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

  record(): TaskRecord {
    const { path, name, root, systemdCgroup } = this.runtime.settings;
    const pid = pidOf(this.init.state);
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
      init: pid === 0 ? undefined : processRecord(pid),
      added: this.execs.all().flatMap(({ id, stdio, state }) => {
        return state.status === "created" ? [{ id, stdio }] : [];
      }),
      owed: this.events.records(),
      execs: this.execs.all().flatMap(({ id, stdio, state, exit }) => {
        if (state.status === "created") return [];
        const ended = exit && { status: exit.status, at: String(exit.at) };
        return [{ id, stdio, ...processRecord(pidOf(state)), ...(ended && { exit: ended }) }];
      }),
    };
  }

  #accountTo(cgroup: Cgroup | undefined): void {
    this.#cgroup = cgroup;
    if (cgroup === undefined) return;
    const { logger } = this.#services;
    const onOom = (): void => {
      this.events.tell(this.events.owe({ topic: "/tasks/oom", containerId: this.id }));
    };
    this.#oom = new OomWatch(cgroup, { logger, onOom });
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
    this.events.tellUnrecorded({
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
    await this.#save();
  }

  #saveSoon(): void {
    if (this.#isDeleted || this.#services.handover === undefined) return;
    this.#saveTimer ??= setTimeout(() => void this.#save(), saveSoonMs).unref();
  }

  /** Records what a successor needs: one write at a time, and one for all who wait for the next. */
  #save(): Promise<void> {
    this.#nextSave ??= this.#saving.then(async () => {
      this.#nextSave = undefined;
      clearTimeout(this.#saveTimer);
      this.#saveTimer = undefined;
      if (this.#isDeleted) return;
      try {
        await writeTaskRecord(this.bundle, this.record());
      } catch (error) {
        // The container goes on; only a successor would miss it.
        this.#services.logger.error("failed to record task", { error, id: this.id });
      }
    });
    this.#saving = this.#nextSave;
    return this.#saving;
  }
}

function processRecord(pid: number): ProcessRecord {
  return { pid, startTime: readProcStat(pid)?.startTime ?? "", pipes: readPipes(pid) };
}
