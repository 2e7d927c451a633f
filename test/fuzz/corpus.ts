import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "#pkg/errors.ts";

/** Inputs that a property once did not hold for, a file each: `corpus/<target>/<digest>.json`. */
export class Corpus {
  readonly #dir: string;

  constructor(root: string, target: string) {
    this.#dir = join(root, target);
  }

  async load(): Promise<readonly { readonly file: string; readonly input: unknown }[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (isErrno(error, "ENOENT")) return [];
      throw error;
    });
    const files = names.filter((name) => name.endsWith(".json")).toSorted();
    return Promise.all(
      files.map(async (name) => {
        const file = join(this.#dir, name);
        return { file, input: decodeInput(await readFile(file, "utf8")) };
      }),
    );
  }

  /** Keeps an input, as `encodeInput` wrote it, and answers its file. */
  async keep(encoded: string): Promise<string> {
    const digest = createHash("sha256").update(encoded).digest("hex").slice(0, 12);
    const file = join(this.#dir, `${digest}.json`);
    await mkdir(this.#dir, { recursive: true });
    await writeFile(file, `${encoded}\n`);
    return file;
  }
}

/** JSON, in which bytes are `{"$base64": ..}` and big integers `{"$bigint": ..}`. */
export function encodeInput(input: unknown): string {
  return JSON.stringify(plain(input));
}

export function decodeInput(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== "object" || value === null) return value;
    if ("$base64" in value) return new Uint8Array(Buffer.from(String(value.$base64), "base64"));
    if ("$bigint" in value) return BigInt(String(value.$bigint));
    return value;
  });
}

// Before JSON.stringify sees it: a Buffer would turn itself into a list of numbers.
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $base64: Buffer.from(value).toString("base64") };
  if (typeof value === "bigint") return { $bigint: String(value) };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}
