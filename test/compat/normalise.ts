/** Texts that differ from run to run, each with what stands for it in a recording. */
export type Replacements = ReadonlyMap<string, string>;

/**
 * What is left of an output when everything is gone that no two runs share: times, process ids, ages, speeds, paths
 * of the room, identities made at random, the order of labels, and the widths of columns. Digests of known blobs get
 * their names, any other stays to be seen.
 */
export function normalise(text: string, replacements: Replacements): string {
  let result = text.replaceAll(ansi, "").replaceAll("\r\n", "\n");
  for (const [from, to] of replacements) result = result.replaceAll(from, to);
  for (const [pattern, replacement] of patterns) result = result.replace(pattern, replacement);
  return lastProgress(result.split("\n")).map(sortLabels).map(sortOptions).join("\n");
}

const ansi = new RegExp(`${String.fromCodePoint(27)}\\[[0-9;]*[A-Za-z]`, "g");

const patterns: readonly (readonly [RegExp, string])[] = [
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "UUID"],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d))?( UTC)?/g, "TIME"],
  [/\b(Less than a|\d+|About a|About an) (second|minute|hour)s?\b/g, "AGE"],
  // ctr's picture of a pull races with the end of the pull.
  [/^time="TIME" level=error msg="[a-z ]+" error="context canceled"\n/gm, ""],
  [/^elapsed: .*$/gm, "elapsed: DURATION total: SIZE (SPEED)"],
  [/^done: [\d.]+[mµ]?s/gm, "done: DURATION"],
  [/("pid":|"Pid": ?)\d+/g, "$1PID"],
  [/^( *Revision:) +[0-9a-f]{40}$/gm, "$1 REVISION"],
  [/\bextract-\d+-\S{4}\b/g, "extract-RANDOM"],
  [/\/fifo\/\d+\//g, "/fifo/RANDOM/"],
  [/\/snapshots\/\d+\//g, "/snapshots/N/"],
  // The table of tasks.
  [/^(\S+ +)\d+( +(RUNNING|STOPPED|CREATED|PAUSED))/gm, "$1PID$2"],
  [/(?<=\S)[ \t]+/g, " "],
  [/ +$/gm, ""],
];

/**
 * ctr repaints a table of what it fetches, as often as it takes: what counts is how each item ended. The table is
 * where the first item stood, in the order of names.
 */
function lastProgress(lines: readonly string[]): string[] {
  const item = /^(?<name>\S+): (?<status>\w+) \|[-+]*\|/;
  const ends = new Map<string, string>();
  const rest: string[] = [];
  let start: number | undefined;
  for (const line of lines) {
    const groups = line.includes("|") ? item.exec(line)?.groups : undefined;
    if (groups === undefined) {
      if (!(start !== undefined && line.startsWith("elapsed:") && rest.includes(line)))
        rest.push(line);
      continue;
    }
    start ??= rest.length;
    ends.set(groups["name"] ?? "", groups["status"] ?? "");
  }
  const table = [...ends].map(([name, status]) => `${name}: ${status}`).toSorted();
  return rest.toSpliced(start ?? 0, 0, ...table);
}

/** `a=1,b=2`, the last column of several tables, comes in no order. */
function sortLabels(line: string): string {
  const labels = /(?<=^| )[^ ,=]+=[^ ,]*(,[^ ,=]+=[^ ,]*)+$/.exec(line)?.[0];
  if (labels === undefined) return line;
  return line.slice(0, -labels.length) + labels.split(",").toSorted().join(",");
}

/** The options of a mount are a set: which comes first changed with the versions of containerd. */
function sortOptions(line: string): string {
  return line.replaceAll(/(?<="options":\[)[^\]]*/g, (options) =>
    options.split(",").toSorted().join(","),
  );
}

/** Sorts all lines of a table but its head, which is in capitals. */
export function inAnyOrder(text: string): string {
  const lines = text.trimEnd().split("\n");
  const head = /^[A-Z ]+$/.test(lines[0] ?? "") ? lines.slice(0, 1) : [];
  return [...head, ...lines.slice(head.length).toSorted(), ""].join("\n");
}

/** A size as ctr prints it: of content in units of 1000, of images in units of 1024. */
export function printedSizes(bytes: number): string[] {
  return [decimal(bytes), binary(bytes)];
}

function decimal(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  let [value, unit] = [bytes, 0];
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}

function binary(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let [value, unit] = [bytes, 0];
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${units[unit]}`;
}
