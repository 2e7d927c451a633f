import { closeSync, existsSync, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { tryParseFailedStart } from "#core/runtime/bootstrap.ts";
import { CodedError, hasCode } from "#pkg/errors.ts";
import { O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { writeDurably } from "#shim/durable-file.ts";
import { answers } from "#shim/group-socket.ts";
import { defaultSocketDir, socketAddress, socketPath } from "#shim/socket-address.ts";
import { type BundleSpec, readSpec } from "#shim/spec.ts";
import { formatStartResult, parseStartInput, type StartRequest } from "./bootstrap-convert.ts";
import type { Flags } from "./flags.ts";
import { joinGroup } from "./group-proxy.ts";
import { readStdin } from "./stdin.ts";

/** Annotations by which containers share a process, the first that is there counts. */
const groupAnnotations = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"] as const;

/**
 * What a daemon calls in the bundle of a new task: finds or starts the supervisor of its group and
 * prints the address.
 */
export async function start(flags: Flags): Promise<void> {
  const { namespace, id } = flags;
  const bundle = process.cwd();
  const request = parseStartInput(await readStdin(), { id, namespace });
  const group = groupOf(await readSpec(bundle), id);
  const socketDir = request.socketDir ?? defaultSocketDir;
  const daemonAddress = request.grpcAddress ?? flags.address;
  const address = socketAddress(socketDir, { daemonAddress, namespace, id: group });
  if (!(await tryJoin(address, id))) {
    await launch(flags, request, { group, socketDir, bundle, daemonAddress });
  }
  // Daemons before 2.0 look here after their restart.
  await writeDurably(join(bundle, "address"), address);
  if (request.dialect === "address") writeSync(1, address);
  else writeSync(1, formatStartResult(address));
}

export function groupOf(spec: Pick<BundleSpec, "annotations">, id: string): string {
  for (const name of groupAnnotations) {
    const group = spec.annotations[name];
    if (group !== undefined) return group;
  }
  return id;
}

async function tryJoin(address: string, id: string): Promise<boolean> {
  if (!(await answers(socketPath(address)))) return false;
  try {
    await joinGroup(address, id);
    return true;
  } catch (error) {
    if (hasCode(error, "unavailable")) return false;
    throw error;
  }
}

/** Resolves when the supervisor can be reached. */
async function launch(
  flags: Flags,
  request: StartRequest,
  where: { group: string; socketDir: string; bundle: string; daemonAddress: string },
): Promise<void> {
  const args = ["-namespace", flags.namespace, "-id", where.group];
  args.push("-address", where.daemonAddress, "-socket-dir", where.socketDir);
  const { shimCgroup } = request.options;
  if (shimCgroup !== "") args.push("-shim-cgroup", shimCgroup);
  if (flags.debug || request.isDebug) args.push("-debug");
  const [script = ""] = process.argv.slice(1, 2);
  const ready = linux.pipe2(0);
  const none = openSync("/dev/null", "r+");
  const log = openLog(where.bundle) ?? none;
  const source = new Socket({ fd: ready.read, readable: true, writable: false });
  try {
    spawnProcess({
      path: process.execPath,
      argv: [process.execPath, ...process.execArgv, script, ...args, "supervise"],
      env: environment(request),
      fds: [none, ready.write, log],
      setsid: true,
    });
  } finally {
    for (const fd of new Set([ready.write, none, log])) closeSync(fd);
  }
  const line = await text(source);
  const failure =
    line === "" ? "the supervisor ended before it could be reached" : tryParseFailedStart(line);
  if (failure !== undefined) throw new CodedError("unknown", failure);
}

// The daemon reads the other end. Opened for both directions: it may be gone some day, and that
// must not be an error each time something is logged.
function openLog(bundle: string): number | undefined {
  const path = join(bundle, "log");
  return existsSync(path) ? openSync(path, O.RDWR | O.NONBLOCK) : undefined;
}

function environment(request: StartRequest): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  const env = Object.fromEntries(inherited);
  if (request.ttrpcAddress !== undefined) env["TTRPC_ADDRESS"] = request.ttrpcAddress;
  return env;
}
