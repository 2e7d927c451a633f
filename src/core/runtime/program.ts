import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";

export interface ProgramRequest {
  readonly path: string;
  /** Without the program's name. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly stdin: Uint8Array;
  /** Where standard error goes: read apart, or into the same pipe as standard output. */
  readonly stderr: "apart" | "with-stdout";
}

export interface ProgramResult {
  /** As Go words it: `exit status 1`, `signal: killed`; empty for a success. */
  readonly failure: string;
  /** Undefined where a signal ended it. */
  readonly exitCode: number | undefined;
  /** At most 1 MiB of each; what is more is dropped. */
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

export interface LaunchRequest {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Undefined leaves it open until `feed`. */
  readonly stdin: Uint8Array | undefined;
  /** Inherited as descriptors 3, 4, ...; they stay open here. */
  readonly fds: readonly number[];
}

/** A process in a session of its own, which outlives this one. */
export interface LaunchedProgram {
  readonly pid: number;
  /** What it wrote to standard output up to the close of it, at most 64 KiB. */
  readonly announcement: Promise<string>;
  /** Resolves when it has ended, with words as `ProgramResult.failure`. */
  readonly exited: Promise<string>;
  /** All of its standard input, where it was started without. */
  feed(stdin: Uint8Array): void;
  /** Kills it where it has not ended. */
  kill(): void;
}

/** Starts programs: how this noun has children. */
export interface ProgramRunner {
  /**
   * Runs a program to its end, in a process group of its own.
   *
   * When `ctx` ends first the group is killed, and the promise resolves with what there is. A
   * descendant that keeps the pipes open does not hold it up. Throws when the program cannot be
   * started.
   */
  run(ctx: Context, request: ProgramRequest): Promise<ProgramResult>;
  /**
   * Starts one that stays; its standard error is this process's, as a rule. Throws when it cannot be
   * started.
   */
  launch(request: LaunchRequest): LaunchedProgram;
}

/** A command of PATH, by its absolute path; undefined where there is none. */
export async function findProgram(name: string, searchPath: string): Promise<string | undefined> {
  for (const directory of searchPath.split(delimiter)) {
    const path = join(directory, name);
    // A relative entry would run whatever lies where the daemon was started.
    if (isAbsolute(path) && (await isExecutable(path))) return path;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENOTDIR", "ELOOP")) return false;
    throw error;
  }
}
