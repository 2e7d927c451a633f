import assert from "node:assert/strict";
import { type Output, run, type RunOptions } from "#test/support/command.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import type { Image } from "#test/support/images.ts";
import { type Registry, startRegistry } from "#test/support/registry/registry.ts";
import type { Room } from "#test/support/room.ts";

/** What these tests need of the machine. */
export const sid = { needs: ["sid"] } as const;

export interface Ctr2 {
  readonly daemon: Daemon;
  readonly ctr: (args: readonly string[], options?: RunOptions) => Promise<Output>;
  /** For a command that must succeed; what it printed. */
  readonly ok: (args: readonly string[], options?: RunOptions) => Promise<string>;
  readonly names: () => Promise<string[]>;
}

export interface Ctr2Options {
  readonly config?: string;
  readonly args?: readonly string[];
}

/** A daemon, Go's own of that version where CONTAINERD_TEST_DAEMON=go, and `ctr` 2.x for it. */
export async function startCtr2(
  room: Room,
  { config = "", args = [] }: Ctr2Options = {},
): Promise<Ctr2> {
  const daemon = await startDaemon(room, {
    goProgram: newerProgram("sid", "containerd"),
    config,
    args,
  });
  const program = newerProgram("sid", "ctr");
  const ctr = (args: readonly string[], options: RunOptions = {}): Promise<Output> =>
    run([program, ...args], { ...options, env: { ...daemon.clientEnv, ...options.env } });
  const ok = async (args: readonly string[], options: RunOptions = {}): Promise<string> => {
    const output = await ctr(args, options);
    const shown = `ctr ${args.join(" ")}\n${output.stdout}${output.stderr}\n${await daemon.log()}`;
    assert.equal(output.code, 0, shown);
    return output.stdout;
  };
  const names = async (): Promise<string[]> => (await ok(["i", "ls", "-q"])).trim().split("\n");
  return { daemon, ctr, ok, names };
}

/** Serves an image as `image:1`. */
export async function serve(room: Room, image: Image, user?: string): Promise<Registry> {
  const served = [{ repository: "image", tag: "1", image }];
  return room.resources.use(await startRegistry(served, user === undefined ? {} : { user }));
}
