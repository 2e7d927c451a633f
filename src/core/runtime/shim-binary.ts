import { stat } from "node:fs/promises";
import { delimiter, isAbsolute } from "node:path";
import { findProgram } from "#core/runtime/program.ts";
import { CodedError, isErrno, messageOf } from "#pkg/errors.ts";

/** The runtime this daemon serves with supervisors of its own. */
export const runcRuntime = "io.containerd.runc.v2";

export interface ShimSearch {
  /** The folder of the daemon's own commands, searched first. */
  readonly daemonDir: string;
  /** As in the environment's PATH. */
  readonly path: string;
}

const nameRule =
  "correct runtime name should be either format like `io.containerd.runc.v2` " +
  "or a full path to the binary";

/**
 * The shim of a runtime: `io.containerd.<name>.<version>` is `containerd-shim-<name>-<version>`,
 * beside the daemon or on PATH; an absolute path is itself.
 *
 * Clients see the words: they are upstream's.
 */
export async function findShimBinary(runtime: string, search: ShimSearch): Promise<string> {
  if (runtime === "") throw failed("no runtime name");
  if (isAbsolute(runtime)) {
    try {
      await stat(runtime);
    } catch (cause) {
      const words = isErrno(cause, "ENOENT") ? "no such file or directory" : messageOf(cause);
      throw failed(`invalid custom binary path: stat ${runtime}: ${words}`, cause);
    }
    return runtime;
  }
  const name = shimBinaryName(runtime);
  if (runtime.includes("/") || name === undefined) {
    throw failed(`invalid runtime name ${runtime}, ${nameRule}`);
  }
  const searched = [search.daemonDir, search.path].join(delimiter);
  const path = await findProgram(name, searched);
  if (path !== undefined) return path;
  throw failed(`runtime "${runtime}" binary not installed "${name}": file does not exist`);
}

/** Undefined for what is no name of a runtime. */
export function shimBinaryName(runtime: string): string | undefined {
  const parts = runtime.split(".");
  if (parts.length < 2 || parts[0] === "") return undefined;
  return `containerd-shim-${parts.at(-2)}-${parts.at(-1)}`;
}

function failed(words: string, cause?: unknown): CodedError {
  return new CodedError("unknown", `failed to resolve runtime path: ${words}`, { cause });
}
