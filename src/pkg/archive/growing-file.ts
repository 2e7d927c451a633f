import { type FileHandle, open } from "node:fs/promises";

/** How far a file has come: its first bytes are final, and more may follow. */
export interface Growth {
  readonly heldBytes: number;
  /** `broken`: the rest will never come. */
  readonly end: "whole" | "broken" | undefined;
}

/**
 * A file that somebody still writes, for those who read along.
 *
 * Held by an open descriptor: it can be read whatever becomes of its name. The writer says how far it has come; dispose
 * closes the descriptor, so nobody may read any more then.
 */
export class GrowingFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #watchers = new Set<() => void>();
  #growth: Growth;

  private constructor(file: FileHandle, heldBytes: number) {
    this.#file = file;
    this.#growth = { heldBytes, end: undefined };
  }

  static async open(path: string, heldBytes: number): Promise<GrowingFile> {
    return new GrowingFile(await open(path, "r"), heldBytes);
  }

  get fd(): number {
    return this.#file.fd;
  }

  get growth(): Growth {
    return this.#growth;
  }

  /** By the writer, after the bytes are in the file. */
  grown(heldBytes: number): void {
    this.#set({ heldBytes, end: undefined });
  }

  /** By the writer, once; the first call counts. */
  ended(end: "whole" | "broken"): void {
    if (this.#growth.end === undefined) this.#set({ heldBytes: this.#growth.heldBytes, end });
  }

  /** Calls back now and whenever the growth changes, until it is disposed. */
  watch(onGrowth: () => void): Disposable {
    this.#watchers.add(onGrowth);
    onGrowth();
    return { [Symbol.dispose]: () => void this.#watchers.delete(onGrowth) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.ended("broken");
    await this.#file.close();
  }

  #set(growth: Growth): void {
    this.#growth = growth;
    for (const onGrowth of this.#watchers) onGrowth();
  }
}
