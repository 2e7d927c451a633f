import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { isErrno } from "#pkg/errors.ts";
import { type Output, type RunOptions, run } from "#test/support/command.ts";
import { debianProgram } from "#test/support/debian.ts";
import { processInfo, until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

/** `go` is Debian's containerd, on which every test that can run there is proved first. */
export type DaemonKind = "go" | "ours";

/** CONTAINERD_TEST_DAEMON=go turns a test that names no kind to Go's. */
export function daemonKind(): DaemonKind {
  return process.env["CONTAINERD_TEST_DAEMON"] === "go" ? "go" : "ours";
}

export interface DaemonOptions {
  readonly kind?: DaemonKind;
  /** Another Go daemon than that of Debian's own release; its shim is taken from beside it. */
  readonly goProgram?: string;
  /** TOML that follows the private paths in the configuration file: tables only, no top-level keys. */
  readonly config?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Soft limit of open files the daemon starts with; containers without a limit of their own inherit it. */
  readonly softOpenFiles?: number;
}

/**
 * A containerd with root, state, sockets and configuration of its own below the room's folder. It is stopped with
 * the room; containers are the test's to remove.
 */
export interface Daemon {
  readonly kind: DaemonKind;
  readonly address: string;
  readonly root: string;
  readonly state: string;
  readonly configFile: string;
  /** Changes with `start`. */
  readonly pid: number;
  /** Environment under which `ctr` speaks to this daemon, in the room's namespace. */
  readonly clientEnv: Readonly<Record<string, string>>;
  log(): Promise<string>;
  /** Runs Go's `ctr`, in the room's namespace unless the arguments say otherwise. */
  ctr(args: readonly string[], options?: RunOptions): Promise<Output>;
  /** As `ctr`, for a command that must succeed; returns what it printed. */
  ctrOk(args: readonly string[], options?: RunOptions): Promise<string>;
  /** Ends it in order (SIGTERM) and returns its exit code. */
  stop(): Promise<number>;
  /** SIGKILL, as a crash would. */
  crash(): Promise<void>;
  /** As `stop`, where it runs. */
  end(): Promise<void>;
  /** Starts it again on the same root and state, after `stop` or `crash`. */
  start(): Promise<void>;
}

export async function startDaemon(room: Room, options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = new DaemonProcess(room, options);
  await daemon.writeConfig(options.config ?? "");
  room.resources.defer(() => daemon.end());
  await daemon.start();
  return daemon;
}

const project = join(import.meta.dirname, "../..");

class DaemonProcess implements Daemon {
  readonly kind: DaemonKind;
  readonly address: string;
  readonly root: string;
  readonly state: string;
  readonly configFile: string;
  readonly clientEnv: Readonly<Record<string, string>>;
  readonly #dir: string;
  readonly #options: DaemonOptions;
  #child: ChildProcess | undefined;

  constructor(room: Room, options: DaemonOptions) {
    this.kind = options.kind ?? daemonKind();
    this.#options = options;
    this.#dir = join(room.dir, "daemon");
    this.root = join(this.#dir, "root");
    this.state = join(this.#dir, "state");
    this.address = join(this.#dir, "s", "containerd.sock");
    this.configFile = join(this.#dir, "config.toml");
    this.clientEnv = {
      PATH: systemPath,
      CONTAINERD_ADDRESS: this.address,
      CONTAINERD_NAMESPACE: room.namespace,
      HOME: room.dir,
      LC_ALL: "C.UTF-8",
      TZ: "UTC",
    };
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error("the daemon is not running");
    return this.#child.pid;
  }

  async writeConfig(more: string): Promise<void> {
    await mkdir(dirname(this.address), { recursive: true });
    await writeFile(
      this.configFile,
      [
        "version = 2",
        `root = ${JSON.stringify(this.root)}`,
        `state = ${JSON.stringify(this.state)}`,
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
        "[grpc]",
        `  address = ${JSON.stringify(this.address)}`,
        "[ttrpc]",
        `  address = ${JSON.stringify(`${this.address}.ttrpc`)}`,
        '[plugins."io.containerd.internal.v1.opt"]',
        `  path = ${JSON.stringify(join(this.#dir, "opt"))}`,
        more,
        "",
      ].join("\n"),
    );
  }

  async start(): Promise<void> {
    const log = openSync(join(this.#dir, "log"), "a");
    try {
      // The shell gives it the limits and the umask of a service, whatever those of the test runner are.
      const limits = `ulimit -S -n ${this.#options.softOpenFiles ?? 1024}; umask 022; exec "$@"`;
      this.#child = spawn("/bin/sh", ["-c", limits, "sh", ...this.#command()], {
        stdio: ["ignore", log, log],
        cwd: "/",
        env: { PATH: this.#path(), TZ: "UTC", ...this.#options.env },
      });
    } finally {
      closeSync(log);
    }
    const child = this.#child;
    const failed = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        reject(new Error(`the daemon ended before it was ready: ${code ?? signal}`));
      });
    });
    failed.catch(() => undefined); // -- once it is ready, an exit is what the test makes of it
    try {
      // Where many write to the disk, a start waits for all of it.
      const ready = until("the daemon accepts calls", () => accepts(this.address), {
        timeoutMs: 60_000,
      });
      await Promise.race([failed, ready]);
    } catch (error) {
      throw new Error(`${String(error)}\n${await this.log()}`, { cause: error });
    }
  }

  #command(): string[] {
    const program = this.kind === "go" ? this.#goProgram() : join(project, "bin/containerd");
    return [program, "--config", this.configFile, ...(this.#options.args ?? [])];
  }

  #path(): string {
    // Go's daemon finds its shim on PATH.
    return this.kind === "go" ? `${dirname(this.#goProgram())}:${systemPath}` : systemPath;
  }

  #goProgram(): string {
    return this.#options.goProgram ?? debianProgram("containerd");
  }

  async log(): Promise<string> {
    return readFile(join(this.#dir, "log"), "utf8");
  }

  ctr(args: readonly string[], options: RunOptions = {}): Promise<Output> {
    const env = { ...this.clientEnv, ...options.env };
    return run([debianProgram("ctr"), ...args], { ...options, env });
  }

  async ctrOk(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const output = await this.ctr(args, options);
    if (output.code === 0) return output.stdout;
    throw new Error(
      `ctr ${args.join(" ")}: exit ${output.code}\n${output.stdout}${output.stderr}` +
        `--- log of the daemon\n${await this.log()}`,
    );
  }

  async stop(): Promise<number> {
    return this.#signal("SIGTERM");
  }

  async crash(): Promise<void> {
    await this.#signal("SIGKILL");
  }

  async end(): Promise<void> {
    if (this.#child) await this.#signal("SIGTERM");
  }

  async #signal(signal: "SIGTERM" | "SIGKILL"): Promise<number> {
    const child = this.#child;
    if (!child) throw new Error("the daemon is not running");
    this.#child = undefined;
    const ended = () => child.exitCode !== null || child.signalCode !== null;
    child.kill(signal);
    try {
      await until(`the daemon ends on ${signal}`, ended);
    } catch (error) {
      const state = child.pid === undefined ? undefined : await processInfo(child.pid);
      child.kill("SIGKILL");
      throw new Error(`${String(error)} (${state?.state})\n${await this.log()}`, { cause: error });
    }
    return child.exitCode ?? -1;
  }
}

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async function accepts(address: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(address);
  socket.once("connect", () => resolve(true));
  socket.once("error", (error) => {
    if (isErrno(error, "ENOENT", "ECONNREFUSED")) resolve(false);
    else reject(error);
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
