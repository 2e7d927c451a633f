import { stat } from "node:fs/promises";
import { basename } from "node:path";
import {
  encodeBootstrapParams,
  encodeRuntimeOptions,
  parseDeleteOutput,
  parseStartOutput,
} from "#core/runtime/bootstrap-convert.ts";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { Bundle } from "#core/runtime/bundle.ts";
import type { ProgramResult, ProgramRunner } from "#core/runtime/program.ts";
import type { ProcessExit } from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, codeOf, messageOf } from "#pkg/errors.ts";
import type { LogLevel } from "#pkg/log.ts";

/** What every shim is told of this daemon. */
export interface ShimHost {
  readonly programs: ProgramRunner;
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  /** Where shims are asked to put their sockets. */
  readonly socketDir: string;
  /** This daemon's own command, for shims that publish by running it. */
  readonly containerdBinary: string;
  readonly version: string;
  readonly logLevel: LogLevel;
  /** The daemon's own environment. */
  readonly env: Readonly<Record<string, string>>;
  /** What the configuration sets over it. */
  readonly shimEnv: Readonly<Record<string, string>>;
}

/** A virtual machine may have to boot first. */
const startTimeoutMs = 120_000;
const infoTimeoutMs = 5_000;
/** Where it is asked for by a client, who may leave before. */
const runtimeInfoTimeoutMs = 30_000;
/** Of a failed program's output in an error. */
const quotedCharsMax = 4096;

/**
 * The command line of one shim's binary.
 *
 * Failures carry what the program printed before how it ended, upstream's words.
 */
export class ShimCommand {
  readonly path: string;
  readonly #host: ShimHost;
  /** Which file was last seen to have `-info`: an upgrade in place is asked again. */
  #takesParams: string | undefined;

  constructor(path: string, host: ShimHost) {
    this.path = path;
    this.#host = host;
  }

  /**
   * Runs `start`: the shim serves when this resolves. Its whole output counts, stray words on
   * stderr included.
   */
  async start(ctx: Context, bundle: Bundle, options: Any | undefined): Promise<BootstrapResult> {
    const bounded = ctx.withTimeout(startTimeoutMs);
    const result = await this.#run(bounded, bundle, "start", {
      args: [],
      stdin: await this.#startInput(bounded, bundle, options),
      stderr: "with-stdout",
    });
    throwIfFailed(bounded, result, result.stdout);
    return parseStartOutput(result.stdout);
  }

  /**
   * Runs `delete`: kills what is left of the container, unmounts its root and says how it ended.
   */
  async delete(ctx: Context, bundle: Bundle): Promise<ProcessExit> {
    const result = await this.#run(ctx, bundle, "delete", {
      args: ["-bundle", bundle.path],
      stdin: new Uint8Array(),
      stderr: "apart",
    });
    const words = Buffer.from(result.stderr).toString("utf8").trim();
    throwIfFailed(ctx, result, result.stderr);
    if (words !== "") {
      ctx.logger.warn("warnings while cleaning up dead shim", { id: bundle.id, warnings: words });
    }
    return parseDeleteOutput(result.stdout);
  }

  /** Runs `-info`: what the runtime says of itself, as it printed it. */
  async info(ctx: Context, options: Any | undefined): Promise<Uint8Array> {
    const { programs, env } = this.#host;
    const bounded = ctx.withTimeout(runtimeInfoTimeoutMs);
    const { failure, stdout, stderr } = await programs.run(bounded, {
      path: this.path,
      args: ["-info"],
      env,
      cwd: "/",
      stdin: options ? encodeRuntimeOptions(options) : new Uint8Array(),
      stderr: "apart",
    });
    bounded.throwIfEnded();
    if (failure === "") return stdout;
    const said = JSON.stringify(Buffer.from(stderr).toString("utf8").slice(0, quotedCharsMax));
    const words = `failed to run [${this.path} -info]: ${failure} (stderr: ${said})`;
    throw new CodedError("unknown", words);
  }

  #run(
    ctx: Context,
    bundle: Bundle,
    action: "start" | "delete",
    how: {
      readonly args: readonly string[];
      readonly stdin: Uint8Array;
      readonly stderr: "apart" | "with-stdout";
    },
  ): Promise<ProgramResult> {
    const host = this.#host;
    const isVerbose = host.logLevel === "debug" || host.logLevel === "trace";
    return host.programs.run(ctx, {
      path: this.path,
      args: [
        "-namespace",
        bundle.namespace,
        "-address",
        host.grpcAddress,
        "-publish-binary",
        host.containerdBinary,
        "-id",
        bundle.id,
        ...how.args,
        ...(isVerbose ? ["-debug"] : []),
        action,
      ],
      env: shimEnvironment(host, bundle.namespace),
      cwd: bundle.path,
      stdin: how.stdin,
      stderr: how.stderr,
    });
  }

  async #startInput(ctx: Context, bundle: Bundle, options: Any | undefined): Promise<Uint8Array> {
    if (!(await this.#takesBootstrapParams(ctx, bundle, options))) {
      return options ? encodeRuntimeOptions(options) : new Uint8Array();
    }
    return encodeBootstrapParams({
      id: bundle.id,
      namespace: bundle.namespace,
      logLevel: this.#host.logLevel,
      version: this.#host.version,
      ttrpcAddress: this.#host.ttrpcAddress,
      grpcAddress: this.#host.grpcAddress,
      binary: this.#host.containerdBinary,
      socketDir: this.#host.socketDir,
      options,
    });
  }

  /**
   * A shim from before `-info` reads runtime options from its standard input and fails on anything
   * else; one that has it takes the bootstrap message.
   */
  async #takesBootstrapParams(
    ctx: Context,
    bundle: Bundle,
    options: Any | undefined,
  ): Promise<boolean> {
    if (/shim-(runc|runhcs)-v1$/.test(basename(this.path))) return false;
    const { dev, ino, mtimeMs } = await stat(this.path);
    const file = `${dev}:${ino}:${mtimeMs}`;
    if (this.#takesParams === file) return true;
    const bounded = ctx.withTimeout(infoTimeoutMs);
    const { failure } = await this.#host.programs.run(bounded, {
      path: this.path,
      args: ["-info"],
      env: shimEnvironment(this.#host, bundle.namespace),
      cwd: bundle.path,
      stdin: options ? encodeRuntimeOptions(options) : new Uint8Array(),
      stderr: "apart",
    });
    bounded.throwIfEnded();
    if (failure === "") this.#takesParams = file;
    return failure === "";
  }
}

export function shimEnvironment(
  host: Pick<ShimHost, "env" | "shimEnv" | "ttrpcAddress" | "grpcAddress">,
  namespace: string,
): Readonly<Record<string, string>> {
  return {
    ...host.env,
    GOMAXPROCS: "2",
    MAX_SHIM_VERSION: "2",
    TTRPC_ADDRESS: host.ttrpcAddress,
    GRPC_ADDRESS: host.grpcAddress,
    NAMESPACE: namespace,
    ...host.shimEnv,
  };
}

/**
 * `[<output>: ]shim killed after <why>: <how it ended>`, or without the middle when it ended by
 * itself.
 */
function throwIfFailed(ctx: Context, result: ProgramResult, output: Uint8Array): void {
  if (result.failure === "") return;
  const said = Buffer.from(output).toString("utf8").trim().slice(0, quotedCharsMax);
  const prefix = said === "" ? "" : `${said}: `;
  try {
    ctx.throwIfEnded();
  } catch (cause) {
    throw new CodedError(
      codeOf(cause),
      `${prefix}shim killed after ${messageOf(cause)}: ${result.failure}`,
      { cause },
    );
  }
  throw new CodedError("unknown", `${prefix}${result.failure}`);
}
