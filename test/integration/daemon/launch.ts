import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { hash } from "node:crypto";
import { lstat, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Output, run } from "#test/support/command.ts";
import { until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

export const containerd: string = join(import.meta.dirname, "../../../bin/containerd");

const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TZ: "UTC" };

/**
 * Runs the command to its end. A daemon that starts against expectation is killed after a minute
 * and fails the test.
 */
export function launch(args: readonly string[]): Promise<Output> {
  return run([containerd, ...args], { env, cwd: "/" });
}

/** A daemon that the test starts by itself, with its own arguments; it is stopped with the room. */
export interface Launched {
  readonly pid: number;
  /** What it has logged so far. */
  log(): string;
  stop(): Promise<void>;
}

/** Starts a daemon, sends it SIGTERM when its log holds `words`, and tells how it ended. */
export async function interruptAt(args: readonly string[], words: string): Promise<Output> {
  const child = spawn(containerd, args, { env, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  let code: number | undefined;
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    const isNew = !log.includes(words);
    log += text;
    if (isNew && log.includes(words)) child.kill("SIGTERM");
  });
  child.once("close", (ended, signal) => (code = ended ?? (signal === "SIGTERM" ? 143 : 137)));
  try {
    await until(`the daemon ends after ${words}`, () => code !== undefined);
  } finally {
    child.kill("SIGKILL");
  }
  return { code: code ?? -1, stdout: "", stderr: log };
}

export async function launchDaemon(
  room: Room,
  args: readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<Launched> {
  const child = spawn(containerd, args, {
    env: { ...env, ...more },
    cwd: "/",
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  let ended = false;
  child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
  child.once("close", () => (ended = true));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await until("the daemon ends", () => ended);
  };
  room.resources.defer(stop);
  await until(`the daemon boots\n${log}`, () => ended || log.includes("successfully booted"));
  assert.equal(ended, false, log);
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, log: () => log, stop };
}

/**
 * A configuration of version 4 with private folders and sockets below the room, and the path of its
 * file.
 */
export async function configFile(room: Room, name: string, toml = ""): Promise<string> {
  const path = join(room.dir, `${name}.toml`);
  const top = [
    "version = 4",
    `root = "${room.dir}/${name}/root"`,
    `state = "${room.dir}/${name}/state"`,
    toml,
    '[plugins."io.containerd.server.v1.grpc"]',
    `  address = "${room.dir}/${name}/g"`,
    '[plugins."io.containerd.server.v1.ttrpc"]',
    `  address = "${room.dir}/${name}/t"`,
  ];
  await writeFile(path, `${top.join("\n")}\n`);
  return path;
}

/** Every file below a folder: mode, size, the time it was last changed, and what is in it. */
export async function snapshotOf(dir: string): Promise<string[]> {
  const names = await readdir(dir, { recursive: true });
  const lines = [".", ...names].map(async (name) => {
    const path = join(dir, name);
    const found = await lstat(path);
    const content = found.isFile() ? hash("sha256", await readFile(path)) : "";
    return `${name} ${found.mode.toString(8)} ${found.size} ${found.mtimeMs} ${content}`;
  });
  return (await Promise.all(lines)).sort();
}
