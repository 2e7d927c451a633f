import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { test } from "node:test";

import { isErrno } from "#pkg/errors.ts";
import { errnoName, errnoNumber, isSyscallError, SyscallError } from "#pkg/sys/errno.ts";
import { exitStatus32, parseWaitStatus } from "#pkg/sys/exit-status.ts";

test("the message names call and path in the words Go uses", () => {
  assert.equal(
    new SyscallError("EBUSY", "umount2", "/mnt/x").message,
    "umount2 /mnt/x: device or resource busy",
  );
  assert.equal(new SyscallError("ESRCH", "kill").message, "kill: no such process");
  assert.equal(
    new SyscallError("EXDEV", "link", Buffer.from("b")).message.startsWith("link b: "),
    true,
  );
});

test("numbers and names agree with Node's", () => {
  for (const [name, number] of Object.entries(constants.errno)) {
    if (name === "EWOULDBLOCK" || name === "EOPNOTSUPP") continue;
    assert.equal(errnoName(number), name);
  }
  assert.equal(errnoName(95), "ENOTSUP");
  assert.equal(errnoNumber("EAGAIN"), 11);
  assert.equal(errnoName(4000), "EIO");
});

test("isErrno() and isSyscallError() recognise it, and only it", () => {
  const error = new SyscallError("ENOENT", "mount", "/x");
  assert.ok(isErrno(error, "EBUSY", "ENOENT"));
  assert.ok(isSyscallError(error, "ENOENT"));
  assert.ok(isSyscallError(error));
  assert.ok(!isSyscallError(error, "EBUSY"));
  assert.throws(
    () => readFileSync("/nonexistent/file"),
    (e) => isErrno(e, "ENOENT") && !isSyscallError(e),
  );
});

test("a wait status is a code or a signal, and 128 more for the signal", () => {
  assert.deepEqual(parseWaitStatus(0x0700), { code: 7 });
  assert.deepEqual(parseWaitStatus(9), { signal: 9 });
  assert.deepEqual(parseWaitStatus(0x80 | 11), { signal: 11 });
  assert.equal(exitStatus32({ code: 7 }), 7);
  assert.equal(exitStatus32({ signal: 9 }), 137);
});
