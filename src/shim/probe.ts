import { access, constants, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, isAbsolute, join } from "node:path";
import { CodedError } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import type { CommandRunner } from "./runtime-cli.ts";
import type { RuncOptions } from "./options.ts";
import { type BundleSpec, compareVersions } from "./spec.ts";

/** What a runtime on this host can do. */
export interface Capabilities {
  readonly path: string;
  /** First word of `--version`. */
  readonly kind: string;
  readonly version: string;
  /** The highest specification it takes; undefined when it does not look. */
  readonly specVersionMax: string | undefined;
  /** False where the host's cgroups are laid out in a way it refuses. */
  readonly takesHostCgroups: boolean;
  /** Puts processes where systemd and its clients expect them. */
  readonly systemdCgroup: boolean;
}

export interface Choice {
  readonly path: string;
  /** As clients read it in errors. */
  readonly name: string;
  /** The version to put into the bundle when the specification says one this runtime refuses. */
  readonly specVersion: string | undefined;
}

// crun before this one lacks `ps --format` and cgroup v1 fixes that the supervisor relies on.
const crunFloor = "1.5";
const specVersions = ["1.3.0", "1.2.1", "1.2.0", "1.1.0", "1.0.2"] as const;
const probeTimeoutMs = 10_000;

/** Learns what runtimes can do, once per binary as long as its file stays the same. */
export class RuntimeProbe {
  readonly #runner: CommandRunner;
  readonly #searchPath: string;
  readonly #logger: Logger;
  /** What was told of last: a choice is told of when it is another. */
  #told = "";
  readonly #known = new Map<string, { stamp: string; capabilities: Promise<Capabilities> }>();

  constructor(runner: CommandRunner, searchPath: string, logger: Logger) {
    this.#runner = runner;
    this.#searchPath = searchPath;
    this.#logger = logger;
  }

  /**
   * The runtime for a container: the one that was asked for, else crun where it can what is asked,
   * else runc.
   *
   * Throws with Go's words when there is no such binary.
   */
  async choose(options: RuncOptions, spec: BundleSpec): Promise<Choice> {
    const asked = options.binaryName;
    if (asked !== "") {
      const capabilities = await this.capabilities(await lookUp(asked, this.#searchPath));
      return { path: capabilities.path, name: asked, specVersion: lowered(capabilities, spec) };
    }
    const crun = await tryLookUp("crun", this.#searchPath);
    let why = "crun is not on PATH";
    if (crun !== undefined) {
      const capabilities = await this.capabilities(crun);
      const refusal = refusalOf(capabilities, options, spec);
      if (refusal === undefined) {
        this.#tell(crun, { version: capabilities.version });
        return { path: crun, name: "crun", specVersion: lowered(capabilities, spec) };
      }
      why = refusal;
    }
    const runc = await lookUp("runc", this.#searchPath);
    this.#tell(runc, { why });
    return { path: runc, name: "runc", specVersion: undefined };
  }

  #tell(runtime: string, fields: Readonly<Record<string, string>>): void {
    const told = JSON.stringify([runtime, fields]);
    if (told === this.#told) return;
    this.#told = told;
    this.#logger.info("default OCI runtime", { runtime, ...fields });
  }

  async capabilities(path: string): Promise<Capabilities> {
    const { ino, mtimeMs, size } = await stat(path);
    const stamp = `${ino} ${mtimeMs} ${size}`;
    const known = this.#known.get(path);
    if (known?.stamp === stamp) return known.capabilities;
    const capabilities = this.#ask(path);
    this.#known.set(path, { stamp, capabilities });
    capabilities.catch(() => this.#known.delete(path));
    return capabilities;
  }

  async #ask(path: string): Promise<Capabilities> {
    const { output } = await this.#runner.capture({
      path,
      args: ["--version"],
      cwd: "/",
      timeoutMs: probeTimeoutMs,
    });
    const [, kind = basename(path), version = "0"] = /^(\S+) version (\S+)/.exec(output) ?? [];
    const isCrun = kind === "crun";
    return {
      path,
      kind,
      version,
      specVersionMax: isCrun ? await this.#highestSpecVersion(path) : undefined,
      takesHostCgroups: !isCrun || !(await hybridHierarchyHoldsController()),
      // crun makes a cgroup below the scope, where nobody looks for the process.
      systemdCgroup: !isCrun,
    };
  }

  // The runtime looks at the version before anything else and at the terminal soon after, so that
  // this never gets as far as making a container.
  async #highestSpecVersion(path: string): Promise<string> {
    const bundle = await mkdtemp(join(tmpdir(), "containerd-probe-"));
    try {
      for (const ociVersion of specVersions) {
        const spec = {
          ociVersion,
          root: { path: "/nonexistent" },
          process: { terminal: true, cwd: "/", args: ["/nonexistent"] },
        };
        const log = join(bundle, `${ociVersion}.log`);
        await writeFile(join(bundle, "config.json"), JSON.stringify(spec));
        await this.#runner.run({
          path,
          args: ["--root", bundle, "--log", log, "create", "--bundle", bundle, "containerd-probe"],
          cwd: bundle,
          timeoutMs: probeTimeoutMs,
        });
        if (!(await readFile(log, "utf8")).includes("unknown version")) return ociVersion;
      }
      return "1.0.0";
    } finally {
      await rm(bundle, { recursive: true, force: true });
    }
  }
}

/** The path of a program. Throws with Go's words when there is none. */
export async function lookUp(name: string, searchPath: string): Promise<string> {
  const path = await tryLookUp(name, searchPath);
  if (path !== undefined) return path;
  const why = name.includes("/")
    ? `fork/exec ${name}: no such file or directory`
    : `exec: ${JSON.stringify(name)}: executable file not found in $PATH`;
  throw new CodedError("unknown", why);
}

async function tryLookUp(name: string, searchPath: string): Promise<string | undefined> {
  const candidates = name.includes("/")
    ? [name]
    : searchPath
        .split(":")
        .filter(isAbsolute)
        .map((directory) => join(directory, name));
  for (const candidate of candidates) {
    if (await isExecutable(candidate)) return candidate;
  }
  return undefined;
}

/** Why crun is not the one for a container; undefined when it is. */
function refusalOf(crun: Capabilities, options: RuncOptions, spec: BundleSpec): string | undefined {
  const { version, specVersionMax: max } = crun;
  if (compareVersions(version, crunFloor) < 0) return `crun ${version} is older than ${crunFloor}`;
  if (!crun.takesHostCgroups) return "crun does not take this host's cgroups";
  if (!crun.systemdCgroup && options.systemdCgroup) return "systemd is to make the cgroup";
  if (max === undefined || compareVersions(spec.neededVersion, max) <= 0) return undefined;
  return `the specification needs version ${spec.neededVersion}, crun ${version} knows ${max}`;
}

function lowered(runtime: Capabilities, spec: BundleSpec): string | undefined {
  const max = runtime.specVersionMax;
  if (max === undefined || compareVersions(spec.ociVersion, max) <= 0) return undefined;
  // A specification that uses what is newer stays as it is: the runtime then says itself that it
  // refuses it.
  return compareVersions(spec.neededVersion, max) <= 0 ? max : undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false; // not there, or not for us: either way not the one
  }
}

async function hybridHierarchyHoldsController(): Promise<boolean> {
  try {
    const controllers = await readFile("/sys/fs/cgroup/unified/cgroup.controllers", "utf8");
    return controllers.trim() !== "";
  } catch {
    return false; // no hybrid hierarchy
  }
}
