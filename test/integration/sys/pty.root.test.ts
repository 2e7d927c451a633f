import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Context } from "#pkg/context.ts";
import { O } from "#pkg/sys/constants.ts";
import { FdConnection, FdListener } from "#pkg/sys/fd-passing.ts";
import { linux } from "#pkg/sys/linux.ts";
import { PtyStream } from "#pkg/sys/pty-stream.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";

const ctx = Context.background();

roomTest("a terminal's master works on at whoever it was handed to", async (room) => {
  using reaper = new Reaper({ sys: linux, mode: "known" });
  using listener = await FdListener.listen(linux, join(room.dir, "s"));
  using sender = await FdConnection.connect(ctx, linux, join(room.dir, "s"));
  using receiver = await listener.accept(ctx);

  const { master, path } = linux.openPty();
  const terminal = openSync(path, O.RDWR | O.NOCTTY);
  const { pid } = spawnProcess({
    path: "/bin/sh",
    argv: ["sh"],
    env: { PATH: "/usr/bin:/bin", PS1: "ready> " },
    fds: [terminal, terminal, terminal],
    setsid: true,
  });
  closeSync(terminal);
  await sender.send(ctx, Buffer.from("master"), [master]);
  linux.close(master);

  const { data, fds } = await receiver.receive(ctx, { bytesMax: 64, fdsMax: 1 });
  assert.equal(data.toString(), "master");
  const [received] = fds;
  assert.ok(received !== undefined);
  const stream = new PtyStream(linux, received);
  let output = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  const ended = text(stream);
  stream.resize({ rows: 33, columns: 77 });
  stream.write("stty size; test -t 0 && echo on a $((40 + 2)) terminal\n");
  await until("the shell answers", () => output.includes("on a 42 terminal"));
  // The prompt may come before or after the echo of what was typed.
  assert.match(output, /(?:^|ready> )33 77\r\n/m);
  stream.write("exit 5\n");
  // The one duplicate is here, so the shell's end is the stream's.
  await ended;
  assert.deepEqual(await reaper.wait(pid), { code: 5 });
  stream.destroy();
});
