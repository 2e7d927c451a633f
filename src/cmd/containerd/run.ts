import { flushCompileCache } from "node:module";
import { startDaemon } from "#cmd/containerd/daemon.ts";
import { handleFailures } from "#cmd/containerd/failures.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { Host } from "#cmd/containerd/host.ts";
import { notifySystemd } from "#cmd/containerd/notify.ts";
import { projectDir } from "#cmd/containerd/project.ts";
import { dumpReport } from "#cmd/containerd/report.ts";
import { Context } from "#pkg/context.ts";
import { formatTerminal, formatText } from "#pkg/log-format.ts";
import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";
import type { Graph } from "#pkg/plugin/graph.ts";
import { sendDatagram } from "#pkg/sys/linux-unix-socket.ts";
import { readRevision } from "#pkg/version.ts";

/**
 * Within what systemd waits for, so that the log says what hung and not only that something did.
 */
const stopTimeoutMs = 10_000;

/**
 * Runs the daemon until it is told to stop; gives back the exit code. Throws when it cannot start.
 */
export async function runDaemon(flags: Flags): Promise<number> {
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
    notifySystemd("STOPPING=1", { socket: notifySocket, send: sendDatagram, logger: log.root });
    stop.abort();
  });
  const revision = await readRevision(projectDir);
  const logSink = (chunk: Uint8Array): void => write(Buffer.from(chunk).toString());
  try {
    const daemon = await startDaemon(ctx, {
      flags,
      host: new Host({ env: process.env, revision, log, logSink }),
      log,
      terminal,
      notifySocket,
      sendDatagram,
      startedMs: 0,
    });
    running.graph = daemon.graph;
    flushCompileCache();
    await ended(stop.signal);
    return await stopInTime(daemon, daemon.graph, log);
  } catch (error) {
    // To be stopped while starting is no failure.
    if (stop.signal.aborted) return 0;
    throw error;
  }
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

async function stopInTime(daemon: AsyncDisposable, graph: Graph, log: LogWriter): Promise<number> {
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), stopTimeoutMs);
  const outcome = await Promise.race([daemon[Symbol.asyncDispose](), late]);
  clearTimeout(timer);
  if (outcome !== "late") return 0;
  const plugins = graph.records.filter(({ state }) => state === "started").map(({ uri }) => uri);
  log.root.error("plugins did not stop in time", { plugins, timeoutMs: stopTimeoutMs });
  return 1;
}
