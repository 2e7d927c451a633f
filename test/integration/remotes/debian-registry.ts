import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { debianProgram } from "#test/support/debian.ts";
import { until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

export interface DebianRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  log(): Promise<string>;
}

/**
 * Debian's docker-registry on loopback, with the given parts of its configuration, its files in
 * the room. It ends with the room.
 */
export async function startDebianRegistry(
  room: Room,
  parts: { readonly http?: object; readonly auth?: object; readonly proxy?: object } = {},
): Promise<DebianRegistry> {
  const dir = await mkdtemp(join(room.dir, "registry-"));
  const [config, logFile] = [join(dir, "config.yml"), join(dir, "log")];
  const { http, ...rest } = parts;
  // JSON is YAML.
  const configuration = {
    version: "0.1",
    log: { level: "info", formatter: "text" },
    storage: { filesystem: { rootdirectory: join(dir, "data") }, delete: { enabled: true } },
    http: { addr: "127.0.0.1:0", secret: "of the test", ...http },
    ...rest,
  };
  await writeFile(config, JSON.stringify(configuration));
  const output = openSync(logFile, "a");
  const child = spawn(debianProgram("docker-registry"), ["serve", config], {
    stdio: ["ignore", output, output],
    env: { OTEL_TRACES_EXPORTER: "none" },
  });
  closeSync(output);
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  room.resources.defer(async () => {
    child.kill("SIGKILL");
    await until("docker-registry ends", ended);
  });
  const log = (): Promise<string> => readFile(logFile, "utf8");
  let host: string | undefined;
  await until("docker-registry listens", async () => {
    const text = await log();
    assert.ok(!ended(), `docker-registry ended\n${text}`);
    host = /listening on (127\.0\.0\.1:\d+)/.exec(text)?.[1];
    return host !== undefined;
  });
  assert.ok(host !== undefined);
  return { host, log };
}
