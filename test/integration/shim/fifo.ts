import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Room } from "#test/support/room.ts";

/** A client's end of a task's output: reads until the other side lets go. */
export class OutputFifo {
  readonly path: string;
  readonly #source: Socket;
  readonly #ended = Promise.withResolvers<void>();
  #text = "";
  #waiters: (() => void)[] = [];

  constructor(room: Room, name: string) {
    this.path = makeFifo(room, name);
    const fd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
    // A reader that comes before any writer must not take that for the end: hold a writer until
    // there is data.
    const holder = openSync(this.path, constants.O_WRONLY | constants.O_NONBLOCK);
    this.#source = new Socket({ fd, readable: true, writable: false });
    this.#source.on("close", () => this.#ended.resolve());
    this.#source.setEncoding("utf8").on("data", (text: string) => {
      this.#text += text;
      for (const wake of this.#waiters.splice(0)) wake();
    });
    this.release = () => {
      closeSync(holder);
      this.release = () => {};
    };
    room.resources.defer(() => {
      this.release();
      this.#source.destroy();
    });
  }

  /** Call once the task has opened its side: from then on its end is the end. */
  release: () => void;

  get text(): string {
    return this.#text;
  }

  async until(found: (text: string) => boolean): Promise<string> {
    while (!found(this.#text)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiters.push(resolve);
      await promise;
    }
    return this.#text;
  }

  async toEnd(): Promise<string> {
    this.release();
    await this.#ended.promise;
    return this.#text;
  }

  /** As a client that has died. */
  abandon(): void {
    this.release();
    this.#source.destroy();
  }
}

/** A client's end of a task's input. */
export class InputFifo {
  readonly path: string;
  readonly #fd: number;
  readonly #sink: Socket;

  constructor(room: Room, name: string) {
    this.path = makeFifo(room, name);
    this.#fd = openSync(this.path, constants.O_RDWR | constants.O_NONBLOCK);
    this.#sink = new Socket({ fd: this.#fd, readable: false, writable: true });
    room.resources.defer(() => {
      this.#sink.destroy();
    });
  }

  async write(text: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sink.write(text, () => resolve());
    await promise;
  }

  close(): void {
    this.#sink.destroy();
  }
}

export function makeFifo(room: Room, name: string): string {
  const path = join(room.dir, name);
  execFileSync("mkfifo", ["-m", "0600", path]);
  return path;
}
