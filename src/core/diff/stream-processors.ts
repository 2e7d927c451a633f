import { access, constants, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { isLayer, layerMediaType } from "#core/diff/media-type.ts";
import { CodedError, isErrno } from "#pkg/errors.ts";

/**
 * A program that turns blobs of other media types into something a differ knows (`stream_processors`
 * of the configuration): it reads the blob from its standard input and writes what it made of it to
 * its standard output.
 */
export interface StreamProcessor {
  readonly id: string;
  readonly accepts: readonly string[];
  /** Media type of what it writes; another processor may accept that. */
  readonly returns: string;
  /** Looked up in PATH when it has no slash. */
  readonly path: string;
  readonly args: readonly string[];
  /** `KEY=VALUE`, over the daemon's own environment. */
  readonly env: readonly string[];
}

/** A processor and the media type it is given, which its environment names. */
export interface ProcessorStep {
  readonly processor: StreamProcessor;
  readonly mediaType: string;
}

/** Longer than any chain that is meant; processors may return what others accept, in a circle. */
const stepsMax = 8;

/**
 * What a blob of this media type goes through to become a layer; nothing where it is one. The
 * configuration comes before what a differ can do itself.
 *
 * Throws `not-implemented` where the way ends at something that is no layer.
 */
export function stepsToLayer(
  processors: readonly StreamProcessor[],
  mediaType: string,
): readonly ProcessorStep[] {
  const steps: ProcessorStep[] = [];
  for (let at = mediaType; steps.length === 0 || at !== layerMediaType; ) {
    const processor = processors.find(({ accepts }) => accepts.includes(at));
    if (!processor && isLayer(at)) return steps;
    if (!processor) throw refusal(mediaType, "no processor for media-type");
    if (steps.length >= stepsMax) throw refusal(mediaType, `more than ${stepsMax} processors`);
    steps.push({ processor, mediaType: at });
    at = processor.returns;
  }
  return steps;
}

function refusal(mediaType: string, why: string): CodedError {
  const text = `failed to get stream processor for ${mediaType}: ${why}`;
  return new CodedError("not-implemented", text);
}

/** Throws with the words of Go's exec when PATH does not have it. */
export async function findProgram(
  path: string,
  env: Readonly<Record<string, string>>,
): Promise<string> {
  if (path.includes("/")) return path;
  for (const dir of (env["PATH"] ?? "").split(":")) {
    // Whatever lies where the daemon was started is not to be run.
    if (!isAbsolute(dir)) continue;
    const candidate = join(dir, path);
    if (await isProgram(candidate)) return candidate;
  }
  throw new CodedError("unknown", `exec: "${path}": executable file not found in $PATH`);
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "ENOTDIR")) return false;
    throw error;
  }
}

/** The daemon's environment, the processor's own over it, and what it is given. */
export function processorEnv(
  own: Readonly<Record<string, string>>,
  { env }: StreamProcessor,
  mediaType: string,
): Record<string, string> {
  const added = env.map((entry): [string, string] => {
    const equals = entry.indexOf("=");
    return equals < 0 ? [entry, ""] : [entry.slice(0, equals), entry.slice(equals + 1)];
  });
  const { CONTAINERD_NOFILE_SOFT: _own, ...inherited } = own;
  return { ...inherited, ...Object.fromEntries(added), STREAM_PROCESSOR_MEDIATYPE: mediaType };
}
