import assert from "node:assert/strict";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { test } from "node:test";
import { isatty } from "node:tty";

import { O, PR, RLIM_INFINITY, RLIMIT, SOCK } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";

function read(fd: number): string {
  const buffer = Buffer.alloc(100);
  return buffer.toString("utf8", 0, readSync(fd, buffer));
}

test("whatever makes a descriptor makes it close-on-exec", () => {
  const { read: r, write: w } = linux.pipe2(0);
  const [a, b] = linux.socketpair(SOCK.STREAM);
  const { master } = linux.openPty();
  const target = linux.dup(0, 50);
  linux.dup3(r, target);
  const fds = [r, w, a, b, master, target, linux.dup(r), linux.eventfd(0, 0)];
  fds.push(linux.openat(-100, "/dev/null", O.RDONLY), linux.pidfdOpen(process.pid));
  assert.deepEqual(
    fds.filter((fd) => !linux.isCloseOnExec(fd)),
    [],
  );
  for (const fd of fds) linux.close(fd);
});

test("dup() takes the lowest free number from a floor on, dup3() exactly the one told", () => {
  const { read: r, write: w } = linux.pipe2(0);
  const high = linux.dup(w, 200);
  assert.ok(high >= 200);
  writeSync(high, "a");
  assert.equal(read(r), "a");
  const null_ = openSync("/dev/null", "r");
  linux.dup3(w, null_);
  writeSync(null_, "b");
  assert.equal(read(r), "b");
  for (const fd of [r, w, high, null_]) closeSync(fd);
});

test("close() of what is not open is refused", () => {
  const fd = linux.dup(0, 300);
  linux.close(fd);
  assert.throws(() => linux.close(fd), { errno: "EBADF", message: "close: bad file descriptor" });
});

test("status flags belong to the open file, close-on-exec to the descriptor", () => {
  const { read: r, write: w } = linux.pipe2(O.NONBLOCK);
  const other = linux.dup(r);
  linux.setStatusFlags(r, linux.getStatusFlags(r) & ~O.NONBLOCK);
  assert.equal(linux.getStatusFlags(other) & O.NONBLOCK, 0);
  assert.equal(linux.getStatusFlags(w) & O.NONBLOCK, O.NONBLOCK);
  assert.equal(linux.getStatusFlags(w) & 3, O.WRONLY);
  linux.setCloseOnExec(r, "off");
  assert.deepEqual([linux.isCloseOnExec(r), linux.isCloseOnExec(other)], [false, true]);
  linux.closeOnExecRange(r, r);
  assert.equal(linux.isCloseOnExec(r), true);
  for (const fd of [r, w, other]) linux.close(fd);
});

test("setPipeSize() says what the kernel gave", () => {
  const { read: r, write: w } = linux.pipe2(0);
  assert.equal(linux.setPipeSize(r, 100_000), 131_072);
  assert.equal(linux.getPipeSize(w), 131_072);
  for (const fd of [r, w]) linux.close(fd);
});

test("openPty() gives a terminal whose size is settable from either side", () => {
  const { master, path } = linux.openPty();
  const terminal = openSync(path, O.RDWR | O.NOCTTY);
  assert.ok(isatty(master) && isatty(terminal));
  linux.setWindowSize(master, { rows: 33, columns: 101 });
  assert.deepEqual(linux.getWindowSize(terminal), { rows: 33, columns: 101 });
  assert.throws(() => linux.getWindowSize(9999), { errno: "EBADF" });
  closeSync(terminal);
  linux.close(master);
});

test("an eventfd counts", () => {
  const fd = linux.eventfd(3, 0);
  const value = Buffer.alloc(8);
  readSync(fd, value);
  assert.equal(value.readBigUInt64LE(), 3n);
  linux.close(fd);
});

test("sendmsg() and recvmsg() never block", () => {
  const [a, b] = linux.socketpair(SOCK.SEQPACKET);
  assert.throws(() => linux.recvmsg(b, { bytesMax: 1, fdsMax: 1 }), { errno: "EAGAIN" });
  const full = (): void => {
    for (;;) linux.sendmsg(a, Buffer.alloc(4096), []);
  };
  assert.throws(full, { errno: "EAGAIN" });
  assert.throws(() => linux.sendmsg(a, Buffer.alloc(0), [a]), { errno: "EINVAL" });
  for (const fd of [a, b]) linux.close(fd);
  const [alone, gone] = linux.socketpair(SOCK.STREAM);
  linux.close(gone);
  assert.throws(() => linux.sendmsg(alone, Buffer.from("x"), []), { errno: "EPIPE" });
  linux.close(alone);
});

test("a descriptor that is not taken along is no loss", () => {
  const [a, b] = linux.socketpair(SOCK.STREAM, { nonBlocking: true });
  linux.sendmsg(a, Buffer.from("plain"), []);
  const { data, fds } = linux.recvmsg(b, { bytesMax: 10, fdsMax: 0 });
  assert.deepEqual([data.toString(), fds], ["plain", []]);
  linux.sendmsg(a, Buffer.from("x"), [a]);
  assert.throws(() => linux.recvmsg(b, { bytesMax: 10, fdsMax: 0 }), { errno: "EMSGSIZE" });
  for (const fd of [a, b]) linux.close(fd);
});

test("limits are read and set, and what they were is returned", () => {
  const own = linux.prlimit(0, RLIMIT.CORE);
  const lowered = { soft: 0n, hard: own.hard };
  assert.deepEqual(linux.prlimit(0, RLIMIT.CORE, lowered), own);
  assert.deepEqual(linux.prlimit(process.pid, RLIMIT.CORE, own), lowered);
  assert.ok(linux.prlimit(0, RLIMIT.NOFILE).hard < RLIM_INFINITY);
});

test("processes: kill, waitpid and pidfd say that there is none", () => {
  const nobody = 4_194_304;
  assert.throws(() => linux.kill(nobody, 0), { errno: "ESRCH", message: "kill: no such process" });
  assert.throws(() => linux.waitpid(nobody), { errno: "ECHILD" });
  assert.throws(() => linux.pidfdOpen(nobody), /pidfd_open: (no such process|invalid argument)/);
  linux.kill(process.pid, 0);
});

test("a pidfd asks about a running process, and signals it", () => {
  const pidfd = linux.pidfdOpen(process.pid);
  linux.pidfdSendSignal(pidfd, 0);
  const { pid, ppid, exit } = linux.pidfdGetInfo(pidfd);
  assert.deepEqual([pid, ppid, exit], [process.pid, process.ppid, undefined]);
  linux.close(pidfd);
});

test("prctl: subreaper, dumpable, thread id", () => {
  assert.equal(linux.isChildSubreaper(), false);
  linux.setChildSubreaper("on");
  assert.equal(linux.isChildSubreaper(), true);
  linux.setChildSubreaper("off");
  assert.equal(linux.isChildSubreaper(), false);
  assert.throws(() => linux.prctl(PR.SET_DUMPABLE, 99), { errno: "EINVAL" });
  assert.equal(linux.gettid(), process.pid);
});
