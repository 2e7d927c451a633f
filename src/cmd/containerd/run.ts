import { flushCompileCache } from "node:module";
import { countBuffersWithHeap } from "#cmd/containerd/buffer-accounting.ts";
import { type Daemon, startDaemon } from "#cmd/containerd/daemon.ts";
import { handleFailures } from "#cmd/containerd/failures.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { Host } from "#cmd/containerd/host.ts";
import { notifySystemd } from "#cmd/containerd/notify.ts";
import { projectDir } from "#cmd/containerd/project.ts";
import { dumpReport } from "#cmd/containerd/report.ts";
import { stopInTime } from "#cmd/containerd/stop.ts";
import { Context } from "#pkg/context.ts";
import { messageOf } from "#pkg/errors.ts";
import { formatTerminal, formatText } from "#pkg/log-format.ts";
import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";
import type { Graph } from "#pkg/plugin/graph.ts";
import { linux } from "#pkg/sys/linux.ts";
import { readRevision } from "#pkg/version.ts";

/**
 * Runs the daemon until it is told to stop, and ends the process.
 *
 * Not by `process.exit`: that waits for every thread, and one may hang in the kernel for as long as
 * some file system is dead.
 */
export async function runDaemon(flags: Flags): Promise<never> {
  countBuffersWithHeap();
  let code = 1;
  try {
    code = await untilStopped(flags);
  } catch (error) {
    console.error(`containerd: ${messageOf(error)}`);
  }
  return linux.exitGroup(code);
}

/** Gives back the exit code. Throws when the daemon cannot start. */
async function untilStopped(flags: Flags): Promise<number> {
  const terminal = process.stderr.isTTY === true;
  const write = descriptorWriter(process.stderr.fd);
  const format = terminal ? formatTerminal : formatText;
  const log = new LogWriter({ level: "info", format, write });
  handleFailures(log);
  const stop = new AbortController();
  const ctx = Context.background({ signal: stop.signal, logger: log.root });
  const notifySocket = process.env["NOTIFY_SOCKET"];
  const running: { graph?: Graph } = {};
  onSignals(log, running, () => {
    notifySystemd("STOPPING=1", {
      socket: notifySocket,
      sys: linux,
      logger: log.root,
    });
    stop.abort();
  });
  const revision = await readRevision(projectDir);
  const logSink = (chunk: Uint8Array): void => write(Buffer.from(chunk).toString());
  const options = {
    flags,
    host: new Host({ env: process.env, revision, log, logSink }),
    log,
    terminal,
    notifySocket,
    failpoints: process.env["CONTAINERD_FAILPOINTS"],
    startedMs: 0,
  };
  let daemon: Daemon;
  try {
    daemon = await startDaemon(ctx, options);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    log.root.info("stopped while starting", { error });
    return 0;
  }
  running.graph = daemon.graph;
  flushCompileCache();
  await ended(stop.signal);
  return stopInTime(daemon, { records: daemon.graph.records, logger: log.root });
}

function onSignals(log: LogWriter, running: { graph?: Graph }, stop: () => void): void {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    let received = false;
    process.on(signal, () => {
      log.root.debug("received signal", { signal });
      if (!received) stop();
      received = true;
    });
  }
  process.on("SIGUSR1", () => {
    log.root.debug("received signal", { signal: "SIGUSR1" });
    void dumpReport(log.root, running.graph?.records ?? []); // -- it logs its own failures
  });
}

async function ended(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  if (!signal.aborted) await promise;
}
