import { writeSync } from "node:fs";
import { CodedError, messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { RuntimeProbe } from "#shim/probe.ts";
import type { BundleSpec } from "#shim/spec.ts";
import { standaloneChildren } from "./children.ts";
import { formatInfo, parseInfoInput } from "./info-convert.ts";
import { readStdin } from "./stdin.ts";
import { revision, version } from "./version.ts";

const featuresTimeoutMs = 10_000;

/** Asks for nothing that a runtime could lack: the one that a container gets by default. */
const plainSpec: BundleSpec = {
  text: "{}",
  ociVersion: "1.0.0",
  neededVersion: "1.0.0",
  annotations: {},
  hasOwnPidNamespace: true,
};

/**
 * Prints what the runtime can do, as it says itself with `features`, for options on standard input.
 */
export async function info(name: string, logger: Logger): Promise<void> {
  const input = parseInfoInput(await readStdin());
  using standalone = standaloneChildren();
  const probe = new RuntimeProbe(standalone.children, standalone.searchPath, logger);
  let path: string;
  try {
    ({ path } = await probe.choose(input.options, plainSpec));
  } catch (error) {
    const asked = input.options.binaryName === "" ? "runc" : input.options.binaryName;
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
  const features = status === 0 ? output : await probedFeatures(probe, path);
  writeSync(1, formatInfo({ name, version, revision, options: input.any, features }));
}

/** What is known of a runtime that has no `features` (crun before 1.9): the specifications it takes. */
async function probedFeatures(probe: RuntimeProbe, path: string): Promise<string | undefined> {
  const { specVersionMax } = await probe.capabilities(path);
  if (specVersionMax === undefined) return undefined;
  return JSON.stringify({ ociVersionMin: "1.0.0", ociVersionMax: specVersionMax });
}
