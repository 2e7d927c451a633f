import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { lockDirectory } from "#cmd/containerd/directory-lock.ts";
import { notifySystemd } from "#cmd/containerd/notify.ts";
import { applyOomScore } from "#cmd/containerd/oom-score.ts";
import { formatText } from "#pkg/log-format.ts";
import { LogWriter } from "#pkg/log-writer.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";

function logged(): { logger: LogWriter["root"]; lines: string[] } {
  const lines: string[] = [];
  const write = (line: string): void =>
    void lines.push(line.replace(/^time="[^"]*" level=/, "").trim());
  return { logger: new LogWriter({ level: "debug", format: formatText, write }).root, lines };
}

test("a folder can be locked once, and again when the lock is gone", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/lock-`);
  const { logger } = logged();
  const lock = (): Disposable => lockDirectory(linux, dir.path, { what: "root", logger });
  {
    using _ = lock();
    assert.throws(lock, {
      code: "unavailable",
      message: `root ${dir.path} is in use by another containerd`,
    });
  }
  using _ = lock();
});

test("a file system without locks is a warning", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/lock-`);
  const { logger, lines } = logged();
  const flock = (): never => {
    throw new SyscallError("ENOLCK", "flock");
  };
  using _ = lockDirectory({ flock }, dir.path, { what: "state", logger });
  assert.match(lines.join(), /^warning msg="state cannot be locked" error="flock: no locks/);
});

test("an OOM score out of range is one warning; zero is nothing", async () => {
  const { logger, lines } = logged();
  await applyOomScore(0, logger);
  assert.deepEqual(lines, []);
  await applyOomScore(-1001, logger);
  assert.deepEqual(lines, [
    'debug msg="changing OOM score to -1001"',
    'warning msg="failed to change OOM score to -1001" ' +
      'error="OOM score must be between -1000 and 1000, got -1001: out of range"',
  ]);
});

test("systemd is told where it asks, and its absence is no failure", () => {
  const { logger, lines } = logged();
  const sent: string[] = [];
  const sendDatagram = (socket: string, data: Buffer): void => {
    sent.push(`${socket} ${data.toString()}`);
    if (socket === "/gone") throw new SyscallError("ECONNREFUSED", "sendto", socket);
  };
  notifySystemd("READY=1", { socket: undefined, sys: { sendDatagram }, logger });
  notifySystemd("READY=1", { socket: "@abstract", sys: { sendDatagram }, logger });
  notifySystemd("STOPPING=1", { socket: "/gone", sys: { sendDatagram }, logger });
  assert.deepEqual(sent, ["@abstract READY=1", "/gone STOPPING=1"]);
  assert.deepEqual(lines, [
    'debug msg="systemd notification is not sent (i.e. NOTIFY_SOCKET is unset)" ' +
      'notified=false state="READY=1"',
    'debug msg="systemd notification successful" notified=true state="READY=1"',
    'warning msg="systemd notification failed" ' +
      'error="sendto /gone: connection refused" state="STOPPING=1"',
  ]);
});
