import { writeSync } from "node:fs";
import { CodedError, messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { lookUp } from "#shim/probe.ts";
import { standaloneChildren } from "./children.ts";
import { formatInfo, parseInfoInput } from "./info-convert.ts";
import { readStdin } from "./stdin.ts";
import { revision, version } from "./version.ts";

const featuresTimeoutMs = 10_000;

/**
 * Prints what the runtime can do, as it says itself with `features`, for options on standard input.
 */
export async function info(name: string, logger: Logger): Promise<void> {
  const input = parseInfoInput(await readStdin());
  using standalone = standaloneChildren();
  const asked = input.options.binaryName === "" ? "runc" : input.options.binaryName;
  let path: string;
  try {
    path = await lookUp(asked, standalone.searchPath);
  } catch (error) {
    const words = `failed to look up the path of ${JSON.stringify(asked)}: ${messageOf(error)}`;
    throw new CodedError("unknown", words, { cause: error });
  }
  const { status, output } = await standalone.children.capture({
    path,
    args: ["features"],
    cwd: "/",
    timeoutMs: featuresTimeoutMs,
  });
  if (status !== 0) logger.debug("the runtime does not tell its features", { path, status });
  const features = status === 0 ? output : undefined;
  writeSync(1, formatInfo({ name, version, revision, options: input.any, features }));
}
