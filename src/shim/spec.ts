import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { writeDurably } from "./durable-file.ts";

/**
 * What a supervisor has to know of a bundle's `config.json`; the rest is between the client and the
 * runtime.
 */
export interface BundleSpec {
  readonly text: string;
  readonly ociVersion: string;
  /** The lowest version of the specification that has all that this one uses. */
  readonly neededVersion: string;
  readonly annotations: Readonly<Record<string, string>>;
  /**
   * False when the container shares somebody's processes: its own must then be killed one by one at
   * its end.
   */
  readonly hasOwnPidNamespace: boolean;
}

type Fields = Readonly<Record<string, unknown>>;

/** Throws `invalid-argument` when `config.json` is no specification. */
export async function readSpec(bundle: string): Promise<BundleSpec> {
  return parseSpec(await readFile(join(bundle, "config.json"), "utf8"));
}

export function parseSpec(text: string): BundleSpec {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalidArgument(`config.json: ${messageOf(error)}`, { cause: error });
  }
  const spec = fieldsOf(value);
  if (spec === undefined) throw invalidArgument("config.json is not an object");
  const ociVersion = spec["ociVersion"];
  if (typeof ociVersion !== "string") {
    throw invalidArgument(`config.json: ociVersion is ${JSON.stringify(ociVersion)}`);
  }
  return {
    text,
    ociVersion,
    neededVersion: neededVersion(spec),
    annotations: annotationsOf(spec),
    hasOwnPidNamespace: hasOwnPidNamespace(spec),
  };
}

/**
 * Puts another version into a bundle's specification, every other byte as it was: numbers beyond
 * 2^53 among them.
 */
export async function rewriteVersion(bundle: string, spec: BundleSpec, to: string): Promise<void> {
  await writeDurably(join(bundle, "config.json"), withVersion(spec, to));
}

export function withVersion(spec: BundleSpec, to: string): string {
  const quoted = JSON.stringify(to);
  const text = spec.text.replace(/"ociVersion"\s*:\s*"[^"\\]*"/, `"ociVersion":${quoted}`);
  // The key may occur in a map of annotations first; then the one that counts is not reached and
  // nothing is written.
  if (fieldsOf(JSON.parse(text))?.["ociVersion"] !== to) {
    throw invalidArgument("config.json: ociVersion is not the first key of its name");
  }
  return text;
}

/** Below zero when `a` is the older. A pre-release (`1.0.2-dev`) counts as its release. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [numbersOf(a), numbersOf(b)];
  for (const i of [0, 1, 2]) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  return version
    .split(/[-+]/, 1)
    .flatMap((core) => core.split("."))
    .map((part) => Number.parseInt(part, 10) || 0);
}

// Where the specification grew after 1.0.2. A path that is present asks for that version.
const additions: readonly (readonly [version: string, ...path: string[]])[] = [
  ["1.1.0", "domainname"],
  ["1.1.0", "linux", "resources", "cpu", "idle"],
  ["1.1.0", "linux", "resources", "memory", "checkBeforeUpdate"],
  ["1.2.0", "linux", "resources", "cpu", "burst"],
  ["1.2.0", "linux", "timeOffsets"],
  ["1.2.0", "process", "scheduler"],
  ["1.2.0", "process", "ioPriority"],
  ["1.2.1", "process", "execCPUAffinity"],
  ["1.3.0", "linux", "netDevices"],
  ["1.3.0", "linux", "memoryPolicy"],
  ["1.3.0", "linux", "intelRdt", "schemata"],
  ["1.3.0", "linux", "intelRdt", "enableMonitoring"],
];

function neededVersion(spec: Fields): string {
  let needed = hasTimeNamespace(spec) ? "1.2.0" : "1.0.2";
  for (const [version, ...path] of additions) {
    let at: unknown = spec;
    for (const key of path) at = fieldsOf(at)?.[key];
    if (at !== undefined && at !== null && compareVersions(version, needed) > 0) needed = version;
  }
  return needed;
}

function hasTimeNamespace(spec: Fields): boolean {
  return namespacesOf(spec).some((entry) => entry["type"] === "time");
}

function hasOwnPidNamespace(spec: Fields): boolean {
  return namespacesOf(spec).some(
    (entry) => entry["type"] === "pid" && (entry["path"] === undefined || entry["path"] === ""),
  );
}

function namespacesOf(spec: Fields): Fields[] {
  const list = fieldsOf(spec["linux"])?.["namespaces"];
  return Array.isArray(list) ? list.map(fieldsOf).filter((entry) => entry !== undefined) : [];
}

function annotationsOf(spec: Fields): Record<string, string> {
  const entries = Object.entries(fieldsOf(spec["annotations"]) ?? {});
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields) // -- just seen to be an object
    : undefined;
}
