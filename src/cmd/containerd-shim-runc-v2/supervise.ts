import { flushCompileCache } from "node:module";
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { formatFailedStart } from "#core/runtime/bootstrap.ts";
import { handoverKey } from "#core/runtime/handover.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints, parseFailpoints } from "#pkg/failpoint.ts";
import type { Logger } from "#pkg/log.ts";
import { linux } from "#pkg/sys/linux.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { createSchedCore, joinCgroup, ownMountinfo } from "#shim/own-process.ts";
import { serveGroup } from "#shim/serve.ts";
import { Inheritance } from "#shim/inherited-ends.ts";
import { defaultSocketDir, socketAddress, socketPath } from "#shim/socket-address.ts";
import { childEnv, nofileSoft, searchPath } from "./children.ts";
import type { Flags } from "./flags.ts";
import { joinGroup } from "./group-proxy.ts";

const oomScoreMax = 1000;

/**
 * Becomes the supervisor of a group, or finds the one there is.
 *
 * `manifest` says what is inherited from the supervisor before, if anything. Standard output
 * gets one line of JSON when the group can be reached (`version`, `address`, `protocol`, `pid`,
 * `metadata`) and is then let go. Started by the daemon in a session of its own; outlives it.
 */
export async function supervise(flags: Flags, logger: Logger, manifest: string): Promise<never> {
  const { namespace, id: group, address: daemonAddress } = flags;
  const eventsPath = process.env["TTRPC_ADDRESS"] ?? "";
  if (eventsPath === "") throw new CodedError("invalid-argument", "TTRPC_ADDRESS is not set");
  const socketDir = flags.socketDir === "" ? defaultSocketDir : flags.socketDir;
  const address = socketAddress(socketDir, { daemonAddress, namespace, id: group });
  const handoverPath = socketPath(
    socketAddress(socketDir, { daemonAddress, namespace, id: `${group}/handover` }),
  );
  // Without a state directory it has no successor, and hands nothing over.
  const metadata = flags.state === "" ? {} : { [handoverKey]: handoverPath };
  // First of all: what is inherited must not get to a child.
  const inheritance = Inheritance.read(linux, manifest);
  raiseOomScore(logger);
  settle(flags);
  // A fault in one operation must not take the streams of every other container with it.
  process.on("uncaughtException", (error) => logger.error("uncaught exception", { error }));
  const outcome = await serveGroup({
    sys: linux,
    spawn: spawnProcess,
    logger,
    namespace,
    group,
    address,
    handoverPath,
    inheritance,
    eventsPath,
    env: childEnv(),
    searchPath: searchPath(),
    nofileSoft: nofileSoft(),
    failpoints: takeFailpoints(logger),
    stateDir: flags.state === "" ? undefined : flags.state,
    signal: exitSignal(),
    onReady: () => {
      announce({ address, pid: process.pid, metadata });
      // Node would keep what it compiled only at an end of its own, which a supervisor never has.
      flushCompileCache();
    },
  });
  if (outcome === "taken") announce({ address, pid: await joinGroup(address, group), metadata });
  // Told to end, it leaves its containers, whose streams would keep the process; and `process.exit`
  // would wait for a thread that hangs in the kernel.
  return linux.exitGroup(0);
}

/**
 * Does to this process what was asked for it, before it has children, who are where it is. A
 * failure is told on standard output too: it is for whoever wants a container.
 */
function settle({ shimCgroup }: Flags): void {
  try {
    if (shimCgroup !== "") joinCgroup(shimCgroup, process.pid, ownMountinfo());
    if ((process.env["SCHED_CORE"] ?? "") !== "") createSchedCore(linux);
  } catch (error) {
    writeSync(1, formatFailedStart(messageOf(error)));
    throw error;
  }
}

function announce(where: { address: string; pid: number; metadata: object }): void {
  writeSync(1, `${JSON.stringify({ version: 3, protocol: "ttrpc", ...where })}\n`);
  // Whoever reads it waits for the end as well.
  const none = openSync("/dev/null", "w");
  linux.dup3(none, 1);
  closeSync(none);
}

/**
 * What the file named by `CONTAINERD_SHIM_FAILPOINTS` says, as `parseFailpoints` reads it. The file
 * is taken away: a successor is started with the same environment, and is not to fail again.
 */
function takeFailpoints(logger: Logger): Failpoints {
  const path = process.env["CONTAINERD_SHIM_FAILPOINTS"] ?? "";
  if (path === "" || !existsSync(path)) return noFailpoints;
  const spec = readFileSync(path, "utf8");
  unlinkSync(path);
  logger.warn("failpoints are on: this supervisor fails where it is told to", { spec });
  return parseFailpoints(spec);
}

function exitSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

// When memory runs out the daemon should outlive its supervisors, and those their containers.
function raiseOomScore(logger: Logger): void {
  try {
    const parent = Number(readFileSync(`/proc/${process.ppid}/oom_score_adj`, "utf8"));
    writeFileSync("/proc/self/oom_score_adj", String(Math.min(parent + 1, oomScoreMax)));
  } catch (error) {
    logger.warn("failed to adjust OOM score", { error: messageOf(error) });
  }
}
