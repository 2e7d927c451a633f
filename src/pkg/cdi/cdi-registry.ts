import { open, readdir } from "node:fs/promises";
import { extname, join } from "node:path/posix";
import { type CdiSpec, checkCdiSpec, type ContainerEdits, kindOf } from "#pkg/cdi/cdi-spec.ts";
import { completeEdits } from "#pkg/cdi/complete-edits.ts";
import { CodedError, invalidArgument, isErrno, messageOf, notFound } from "#pkg/errors.ts";
import type { SpecOption } from "#pkg/oci/spec-options.ts";
import { withContainerEdits } from "#pkg/cdi/container-edits.ts";

/** Where files lie, the later the stronger: those of the administrator, those made at run time. */
export const defaultCdiDirectories: readonly string[] = ["/etc/cdi", "/var/run/cdi"];

const fileMax = 16 * 1024 * 1024;
const filesMax = 1024;

interface Entry {
  readonly path: string;
  readonly priority: number;
  readonly spec: CdiSpec;
  readonly edits: ContainerEdits;
}

/**
 * The devices that vendors have described for this host, as the files are now.
 *
 * A file that is none is noted in `errors` and hides no other. A device in two directories is the
 * stronger one's; in two files of one directory it is nobody's, since either may be meant.
 */
export class CdiRegistry {
  /** What is wrong, by file. */
  readonly errors: ReadonlyMap<string, readonly string[]>;
  readonly #devices: ReadonlyMap<string, Entry>;

  private constructor(
    devices: ReadonlyMap<string, Entry>,
    errors: ReadonlyMap<string, readonly string[]>,
  ) {
    this.#devices = devices;
    this.errors = errors;
  }

  static async read(directories = defaultCdiDirectories): Promise<CdiRegistry> {
    const found = new Findings();
    for (const [priority, directory] of directories.entries()) {
      for (const path of (await found.attempt(directory, () => filesIn(directory))) ?? []) {
        const spec = await found.attempt(path, async () => checkCdiSpec(await parseFile(path)));
        if (spec) found.add({ path, priority, spec });
      }
    }
    return new CdiRegistry(found.devices(), found.errors);
  }

  /** Qualified names, sorted. */
  devices(): string[] {
    return [...this.#devices.keys()].toSorted();
  }

  /**
   * The option that gives a container these devices, and once for each file what it says for all of
   * its devices. Nodes are completed from the host's.
   *
   * No later option may replace environment, mounts or hooks as a whole. Throws `not-found` naming
   * every device that there is none of.
   */
  async withDevices(names: readonly string[]): Promise<SpecOption> {
    const entries = names.map((name) => ({ name, entry: this.#devices.get(name) }));
    const missing = entries.filter(({ entry }) => !entry).map(({ name }) => name);
    if (missing.length > 0) {
      throw notFound(`CDI device injection failed: unresolvable CDI devices ${missing.join(", ")}`);
    }
    const seen = new Set<CdiSpec>();
    const edits: ContainerEdits[] = [];
    for (const { entry } of entries) {
      if (!entry) continue;
      if (!seen.has(entry.spec) && entry.spec.containerEdits) edits.push(entry.spec.containerEdits);
      seen.add(entry.spec);
      edits.push(entry.edits);
    }
    return withContainerEdits(await Promise.all(edits.map(completeEdits)));
  }
}

/** What files say, while they are read: the stronger directory after the weaker. */
class Findings {
  readonly errors = new Map<string, string[]>();
  readonly #devices = new Map<string, Entry>();
  readonly #conflicts = new Set<string>();

  /** Undefined for what fails, which is noted. */
  async attempt<T>(path: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#note(path, `failed to load CDI Spec ${path}: ${messageOf(error)}`);
      return undefined;
    }
  }

  add(file: Omit<Entry, "edits">): void {
    for (const [name, edits] of devicesOf(file.spec)) {
      const other = this.#devices.get(name);
      if (other?.priority === file.priority) {
        this.#conflict(name, [file.path, other.path]);
      } else {
        this.#devices.set(name, { ...file, edits });
      }
    }
  }

  /** Without what is in conflict: a stronger directory does not settle that, as upstream. */
  devices(): ReadonlyMap<string, Entry> {
    return new Map([...this.#devices].filter(([name]) => !this.#conflicts.has(name)));
  }

  #conflict(name: string, paths: readonly string[]): void {
    this.#conflicts.add(name);
    const specs = paths.map((path) => JSON.stringify(path)).join(", ");
    for (const path of paths) {
      this.#note(path, `conflicting device ${JSON.stringify(name)} (specs ${specs})`);
    }
  }

  #note(path: string, problem: string): void {
    this.errors.set(path, [...(this.errors.get(path) ?? []), problem]);
  }
}

function devicesOf(spec: CdiSpec): [name: string, edits: ContainerEdits][] {
  const { vendor, cdiClass } = kindOf(spec);
  return spec.devices.map((each) => [`${vendor}/${cdiClass}=${each.name}`, each.containerEdits]);
}

async function filesIn(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const names = entries
      .filter((entry) => !entry.isDirectory() && /^\.(json|yaml)$/.test(extname(entry.name)))
      .map((entry) => entry.name);
    if (names.length > filesMax) {
      throw new CodedError("resource-exhausted", `${directory}: more than ${filesMax} CDI specs`);
    }
    return names.toSorted().map((name) => join(directory, name));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

async function parseFile(path: string): Promise<unknown> {
  const text = await readText(path);
  if (extname(path) === ".json") return JSON.parse(text);
  // Only a host with such devices pays for the parser.
  const { parse } = await import("yaml");
  return parse(text, { maxAliasCount: 100, uniqueKeys: true });
}

async function readText(path: string): Promise<string> {
  await using file = await open(path, "r");
  const found = await file.stat();
  if (!found.isFile()) throw invalidArgument("is not a regular file");
  const buffer = Buffer.alloc(Math.min(found.size, fileMax) + 1);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  if (bytesRead > fileMax) throw invalidArgument(`is longer than ${fileMax} bytes`);
  return buffer.toString("utf8", 0, bytesRead);
}
