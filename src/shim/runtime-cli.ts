import { access, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "#pkg/context.ts";
import { CodedError, isErrno } from "#pkg/errors.ts";
import { describeRuntimeError } from "./runtime-log.ts";

/**
 * How long a call of the runtime may take before it is killed. Hooks run inside create, start and
 * delete.
 */
const limitMs = {
  create: 120_000,
  start: 120_000,
  exec: 120_000,
  delete: 120_000,
  update: 60_000,
  kill: 30_000,
  pause: 60_000,
  resume: 60_000,
  ps: 30_000,
} as const;

type Command = keyof typeof limitMs;

export interface CommandRequest {
  /** A path with a slash. */
  readonly path: string;
  /** Without the name of the program. */
  readonly args: readonly string[];
  readonly cwd: string;
  /** Standard input, output and error of the command; /dev/null where it is left out. */
  readonly stdio?: readonly [number, number, number];
  readonly timeoutMs: number;
}

export interface CommandResult {
  /** Exit code, 128 + n for signal n. */
  readonly status: number;
  /** True when it was killed for taking longer than it may. */
  readonly timedOut: boolean;
}

/** Starts a program and waits for it: the supervisor's one way to have children. */
export interface CommandRunner {
  run(request: CommandRequest): Promise<CommandResult>;
  /** The same with standard output read, at most `outputMax` bytes of it. */
  capture(request: CommandRequest): Promise<CommandResult & { readonly output: string }>;
}

export interface RuntimeSettings {
  /** Path of the binary. */
  readonly path: string;
  /** What clients read in errors: the name as it was asked for. */
  readonly name: string;
  /** `--root`, the namespace included. */
  readonly root: string;
  readonly bundle: string;
  readonly systemdCgroup: boolean;
}

export interface CreateFlags {
  readonly pidFile: string;
  readonly consoleSocket: string | undefined;
  readonly noPivot: boolean;
  readonly noNewKeyring: boolean;
  readonly stdio: readonly [number, number, number] | undefined;
}

export interface ExecFlags {
  readonly processFile: string;
  readonly pidFile: string;
  readonly consoleSocket: string | undefined;
  /** A log of its own: calls of `exec` overlap, and each must find its own words. */
  readonly log: string;
  readonly stdio: readonly [number, number, number] | undefined;
}

/**
 * One container's view of an OCI runtime with runc's command line (runc, crun, youki).
 *
 * A failure is thrown in upstream's words, `<context>: <what the runtime logged last>`, of class
 * `unknown`; `deadline-exceeded` when the runtime took longer than it may and was killed. Calls
 * that log to the container's `log.json` must not overlap; `exec` has a log of its own.
 */
export class RuntimeCli {
  readonly settings: RuntimeSettings;
  readonly #runner: CommandRunner;
  readonly #log: string;

  constructor(settings: RuntimeSettings, runner: CommandRunner) {
    this.settings = settings;
    this.#runner = runner;
    this.#log = join(settings.bundle, "log.json");
  }

  async create(id: string, flags: CreateFlags): Promise<void> {
    const args = ["create", "--bundle", this.settings.bundle, "--pid-file", flags.pidFile];
    if (flags.consoleSocket !== undefined) args.push("--console-socket", flags.consoleSocket);
    if (flags.noPivot) args.push("--no-pivot");
    if (flags.noNewKeyring) args.push("--no-new-keyring");
    await this.#call("create", [...args, id], "OCI runtime create failed", { stdio: flags.stdio });
  }

  async start(id: string): Promise<void> {
    await this.#call("start", ["start", id], "OCI runtime start failed");
  }

  async exec(id: string, flags: ExecFlags): Promise<void> {
    const args = ["exec", "--process", flags.processFile, "--detach", "--pid-file", flags.pidFile];
    if (flags.consoleSocket !== undefined) args.push("--console-socket", flags.consoleSocket);
    await this.#call("exec", [...args, id], "OCI runtime exec failed", {
      stdio: flags.stdio,
      log: flags.log,
    });
  }

  async kill(id: string, signal: number, scope: "init" | "all", context: string): Promise<void> {
    const args = scope === "all" ? ["kill", "--all", id] : ["kill", id];
    await this.#call("kill", [...args, String(signal)], context);
  }

  /** Succeeds as well when the runtime knows no such container any more. */
  async delete(id: string, force: "force" | "stopped"): Promise<void> {
    const args = force === "force" ? ["delete", "--force", id] : ["delete", id];
    try {
      await this.#call("delete", args, "failed to delete task");
    } catch (error) {
      if (await this.knows(id)) throw error;
    }
  }

  /** Whether the runtime keeps a state for the container. Its own files say so, not its words. */
  async knows(id: string): Promise<boolean> {
    try {
      await access(join(this.settings.root, id));
      return true;
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
      throw error;
    }
  }

  /**
   * Whether a container that was created runs what it is for. runc and crun keep a FIFO until then,
   * youki a socket; the runtime's `state` would be one more call for each container.
   */
  async hasStarted(id: string): Promise<boolean> {
    let names: readonly string[];
    try {
      names = await readdir(join(this.settings.root, id));
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
      throw error;
    }
    return !names.includes("exec.fifo") && !names.includes("notify.sock");
  }

  async pause(id: string): Promise<void> {
    await this.#call("pause", ["pause", id], "OCI runtime pause failed");
  }

  async resume(id: string): Promise<void> {
    await this.#call("resume", ["resume", id], "OCI runtime resume failed");
  }

  async update(id: string, resourcesFile: string): Promise<void> {
    await this.#call(
      "update",
      ["update", "--resources", resourcesFile, id],
      "OCI runtime update failed",
    );
  }

  /** Pids as the host sees them. */
  async ps(ctx: Context, id: string): Promise<number[]> {
    ctx.throwIfEnded();
    const fromByte = await this.#logSize(this.#log);
    const result = await this.#runner.capture({
      path: this.settings.path,
      args: [...this.#globalArgs(this.#log), "ps", "--format", "json", id],
      cwd: this.settings.bundle,
      timeoutMs: limitMs.ps,
    });
    if (result.status !== 0)
      throw await this.#failure("OCI runtime ps failed", this.#log, fromByte, result);
    const pids: unknown = JSON.parse(result.output);
    // runc prints null for a container without processes.
    if (pids === null) return [];
    if (!Array.isArray(pids) || !pids.every((pid) => Number.isSafeInteger(pid))) {
      throw new CodedError(
        "internal",
        `OCI runtime ps failed: it printed ${result.output.slice(0, 80)}`,
      );
    }
    return pids.map(Number);
  }

  async #call(
    command: Command,
    args: readonly string[],
    context: string,
    options: { stdio?: readonly [number, number, number] | undefined; log?: string } = {},
  ): Promise<void> {
    const log = options.log ?? this.#log;
    const fromByte = await this.#logSize(log);
    const result = await this.#runner.run({
      path: this.settings.path,
      args: [...this.#globalArgs(log), ...args],
      cwd: this.settings.bundle,
      timeoutMs: limitMs[command],
      ...(options.stdio && { stdio: options.stdio }),
    });
    if (result.status !== 0) throw await this.#failure(context, log, fromByte, result);
  }

  async #failure(
    context: string,
    path: string,
    fromByte: number,
    result: CommandResult,
  ): Promise<CodedError> {
    const { name } = this.settings;
    const failure = `${name} did not terminate successfully: exit status ${result.status}`;
    if (result.timedOut) {
      return new CodedError(
        "deadline-exceeded",
        `${context}: ${name} took too long and was killed`,
      );
    }
    return new CodedError(
      "unknown",
      await describeRuntimeError(context, { path, fromByte }, failure),
    );
  }

  #globalArgs(log: string): string[] {
    const args = ["--root", this.settings.root, "--log", log, "--log-format", "json"];
    if (this.settings.systemdCgroup) args.push("--systemd-cgroup");
    return args;
  }

  async #logSize(path: string): Promise<number> {
    try {
      return (await stat(path)).size;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return 0;
      throw error;
    }
  }
}
