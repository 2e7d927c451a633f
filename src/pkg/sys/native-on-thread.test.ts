import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import { nativeOnThread } from "#pkg/sys/libc.ts";
import { linux } from "#pkg/sys/linux.ts";

test("calls that hang, however many, leave files alone, and none is refused", async () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "threads-"));
  // The kernel lets nobody open a FIFO for reading as long as nobody writes to it.
  const open = nativeOnThread<[flags: number]>("open", ["int"]);
  const fifo = join(directory.path, "fifo");
  linux.mkfifo(fifo, 0o600);
  const opening = Promise.allSettled(Array.from({ length: 300 }, () => open(fifo, 0)));
  await turn();
  const written = writeFile(join(directory.path, "file"), "here").then(() => true);
  const timeout = new Promise((resolve) => setTimeout(() => resolve(false), 5_000).unref());
  const isWritten = await Promise.race([written, timeout]);
  // Lets them go, whatever came out.
  const writer = openSync(fifo, "r+");
  const outcomes = await opening;
  closeSync(writer);
  for (const fd of readdirSync("/proc/self/fd")) if (targetOf(fd) === fifo) closeSync(Number(fd));
  assert.equal(isWritten, true);
  assert.deepEqual(
    outcomes.filter(({ status }) => status === "rejected"),
    [],
  );
});

function targetOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // -- the one of the listing itself
  }
}
