import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DaemonKind } from "#test/support/daemon.ts";
import type { CompatCase } from "./compat-case.ts";

const folder = join(import.meta.dirname, "golden");

/** The recording that a daemon's transcript is compared with. */
export function goldenPath(compatCase: CompatCase, kind: DaemonKind): string {
  const ownAnswer = kind === "ours" && compatCase.differs !== undefined;
  return join(folder, `${compatCase.name}${ownAnswer ? ".ours" : ""}.txt`);
}

export async function readGolden(compatCase: CompatCase, kind: DaemonKind): Promise<string> {
  const path = goldenPath(compatCase, kind);
  if (!existsSync(path))
    throw new Error(`${compatCase.name} is not recorded: npm run compat:record`);
  return readFile(path, "utf8");
}

export async function writeGolden(
  compatCase: CompatCase,
  kind: DaemonKind,
  transcript: string,
): Promise<void> {
  await writeFile(goldenPath(compatCase, kind), transcript);
}
