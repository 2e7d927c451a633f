import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { linux } from "#pkg/sys/linux.ts";
import { run } from "#test/support/command.ts";
import { roomTest } from "#test/support/room.ts";

const project = join(import.meta.dirname, "../../..");

roomTest("exitGroup() ends a process whose thread hangs in the kernel", async (room) => {
  const fifo = join(room.dir, "nobody-writes");
  linux.mkfifo(fifo, 0o600);
  // Opening a FIFO that nobody writes to hangs as a dead file system does.
  const script = `
    import { Context } from "${project}/src/pkg/context.ts";
    import { BlockingPool } from "${project}/src/pkg/sys/blocking.ts";
    import { AT, O } from "${project}/src/pkg/sys/constants.ts";
    import { linux } from "${project}/src/pkg/sys/linux.ts";
    const pool = new BlockingPool({ sys: linux, timeoutMs: 100 });
    await pool.run(Context.background(), "openat", AT.FDCWD, ${JSON.stringify(fifo)}, O.RDONLY)
      .catch((error) => console.log(error.code));
    console.log(pool.stuckCalls().length);
    await pool.close();
    linux.exitGroup(7);`;
  // In a file: threads inherit the options of a script on the command line.
  const main = join(room.dir, "main.ts");
  await writeFile(main, script);
  const ended = await run([process.execPath, main], { timeoutMs: 30_000 });
  assert.deepEqual(ended, { code: 7, stdout: "deadline-exceeded\n1\n", stderr: "" });
});
