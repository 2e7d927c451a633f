import { readFile, statfs } from "node:fs/promises";
import { cpus, loadavg, release, totalmem } from "node:os";
import { debianProgram } from "#test/support/debian.ts";
import { commandPath, whyNot } from "#test/support/needs.ts";
import { runOk } from "#test/support/command.ts";

/** What the numbers hang on: the machine, what else it does, and the versions compared. */
export interface MachineFacts {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  readonly load: number;
  readonly temporaryFiles: string;
  readonly node: string;
  readonly go: string;
  readonly runtimes: string;
}

export async function machineFacts(): Promise<MachineFacts> {
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    load: Number((loadavg()[0] ?? 0).toFixed(1)),
    temporaryFiles: await fileSystemOf("/tmp"),
    node: process.version,
    go: (await runOk([debianProgram("containerd"), "--version"])).trim(),
    runtimes: await runtimes(),
  };
}

export function factLines(facts: MachineFacts): string[] {
  return [
    `machine   ${facts.cores} x ${facts.processor}, ${facts.memoryGb} GB, Linux ${facts.kernel}`,
    `load      ${facts.load} before the start; daemons keep their files on ${facts.temporaryFiles}`,
    `Go        ${facts.go}`,
    `ours      Node ${facts.node}`,
    `runtimes  ${facts.runtimes}`,
  ];
}

async function runtimes(): Promise<string> {
  const versions: string[] = [];
  for (const name of ["runc", "crun"] as const) {
    if (commandPath(name) === undefined) continue;
    const refusal = whyNot([name]);
    const version = (await runOk([commandPath(name) ?? name, "--version"])).split("\n")[0];
    versions.push(`${version?.trim()}${refusal === undefined ? "" : ` (${refusal})`}`);
  }
  return versions.join("; ") || "none";
}

/** The mount a path is on and the kind of its file system. */
async function fileSystemOf(path: string): Promise<string> {
  const { type } = await statfs(path);
  const table = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").filter(Boolean);
  const mounts = table.map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    return { at: before.split(" ")[4] ?? "", kind: after.split(" ")[0] ?? "" };
  });
  const found = mounts
    .filter(({ at }) => at === "/" || path === at || path.startsWith(`${at}/`))
    .toSorted((a, b) => b.at.length - a.at.length)[0];
  return found?.kind ?? `file system ${type.toString(16)}`;
}
