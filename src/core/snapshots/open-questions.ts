import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { isOpen, type OpenQuestions } from "#pkg/archive/adopt-layer.ts";
import { isErrno } from "#pkg/errors.ts";

// A layer may be unpacked into a snapshot without parents and be given one when it is committed
// (`rebase`). What the unpacking could not know is kept beside the snapshot's `fs` until then; byte
// strings are written as JSON strings.
const fileName = "open-questions.json";

const schema = v.object({
  implied: v.array(v.string()),
  whiteouts: v.array(v.string()),
  hidesRoot: v.boolean(),
});

/**
 * Keeps questions where the directory that was unpacked into is a snapshot's; elsewhere nobody
 * would ask.
 */
export async function keepOpenQuestions(upper: string, questions: OpenQuestions): Promise<void> {
  if (!isOpen(questions) || basename(upper) !== "fs") return;
  const dir = dirname(upper);
  const work = await stat(join(dir, "work")).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (work?.isDirectory() !== true) return;
  const { implied, whiteouts, hidesRoot } = questions;
  await writeFile(join(dir, fileName), JSON.stringify({ implied, whiteouts, hidesRoot }));
}

/** `dir` is the snapshot's own directory. */
export async function readOpenQuestions(dir: string): Promise<OpenQuestions | undefined> {
  try {
    return v.parse(schema, JSON.parse(await readFile(join(dir, fileName), "utf8")));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

export async function dropOpenQuestions(dir: string): Promise<void> {
  await rm(join(dir, fileName), { force: true });
}
