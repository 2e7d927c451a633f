import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Events } from "#api/services/events/v1/events_pb.ts";
import { imageDelete } from "#core/events/convert.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { check, native } from "#pkg/sys/libc.ts";
import { linux } from "#pkg/sys/linux.ts";
import { configFile, interruptAt, launchDaemon } from "#test/integration/daemon/launch.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { debianProgram } from "#test/support/debian.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();

/** `ctr events` and what it has printed so far. */
function ctrEvents(room: Room, env: Readonly<Record<string, string>>, filters: readonly string[]) {
  const child: ChildProcess = spawn(debianProgram("ctr"), ["events", ...filters], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const state = { output: "", ended: false };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => (state.output += text));
  }
  child.once("close", () => (state.ended = true));
  room.resources.defer(async () => {
    child.kill("SIGKILL");
    await until("ctr events ends", () => state.ended);
  });
  return state;
}

roomTest("ctr events shows what is published, and ends when the daemon does", async (room) => {
  const daemon = await startDaemon(room);
  const all = ctrEvents(room, daemon.clientEnv, []);
  const some = ctrEvents(room, daemon.clientEnv, ['topic=="/images/delete",event.name==two']);
  await using transport = new GrpcTransport({ path: daemon.address });
  const events = createClient(Events, transport);
  const publish = async (name: string): Promise<void> => {
    const { typeUrl, value } = imageDelete({ name });
    const event = { typeUrl, value };
    await events.publish(ctx.withNamespace("ns"), { topic: "/images/delete", event });
  };
  await until("both subscribers see events", async () => {
    for (const name of ["one", "two"]) await publish(name);
    return all.output.includes('"name":"one"') && some.output.includes('"name":"two"');
  });
  assert.match(
    all.output,
    /^\d{4}-\d\d-\d\d \S+ \+0000 UTC ns \/images\/delete \{"name":"one"\}$/m,
  );
  assert.ok(!some.output.includes('"name":"one"'), some.output);
  assert.equal(await daemon.stop(), 0);
  await until("ctr events ends", () => all.ended && some.ended);
});

roomTest("SIGTERM and SIGINT stop in order; what listens is gone", async (room) => {
  const daemon = await startDaemon(room, { kind: "ours", args: ["-l", "debug"] });
  process.kill(daemon.pid, "SIGINT");
  process.kill(daemon.pid, "SIGTERM");
  assert.equal(await daemon.stop(), 0);
  for (const path of [daemon.address, `${daemon.address}.ttrpc`]) {
    await assert.rejects(stat(path), { code: "ENOENT" });
  }
  assert.match(await daemon.log(), /level=debug msg="received signal" signal=SIG(?:INT|TERM)\n/);
});

roomTest("SIGTERM while it starts ends it in order, at whatever step", async (room) => {
  const file = await configFile(room, "early");
  for (const words of ["starting containerd", "metadata.v1.bolt", "starting GRPC server"]) {
    const ended = await interruptAt(["--config", file], words);
    assert.equal(ended.code, 0, ended.stderr);
    assert.doesNotMatch(ended.stderr, /level=(?:error|fatal)/);
    for (const socket of ["g", "t"]) {
      await assert.rejects(stat(join(room.dir, "early", socket)), { code: "ENOENT" });
    }
  }
  // Nothing of the earlier ones holds the folders, and the metadata is whole.
  await launchDaemon(room, ["--config", file]);
});

roomTest(
  "SIGUSR1 writes a report without the environment, and the daemon goes on",
  async (room) => {
    const secret = "hunter2-not-to-be-seen";
    const daemon = await startDaemon(room, {
      kind: "ours",
      env: { TOKEN: secret, TMPDIR: room.dir },
    });
    const path = join(room.dir, `containerd.${daemon.pid}.stacks.log`);
    for (const _ of [1, 2]) {
      process.kill(daemon.pid, "SIGUSR1");
      await until("the report is written", () =>
        stat(path).then(
          () => true,
          () => false,
        ),
      );
      await until("the log says so", async () =>
        (await daemon.log()).includes(`written to ${path}`),
      );
      const report = await readFile(path, "utf8");
      assert.ok(report.includes("javascriptStack"));
      assert.ok(!report.includes(secret));
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      await rm(path);
    }
    assert.doesNotMatch(await daemon.log(), /Debugger listening/);
    assert.match(
      await daemon.log(),
      /BEGIN diagnostic report .*io\.containerd\.event\.v1\.exchange started/,
    );
    assert.match(await daemon.ctrOk(["version"]), /UUID/);
  },
);

roomTest("SIGPIPE is nothing, also when the log's reader has gone", async (room) => {
  const daemon = await startDaemon(room, { kind: "ours" });
  process.kill(daemon.pid, "SIGPIPE");
  assert.match(await daemon.ctrOk(["version"]), /UUID/);
});

roomTest("systemd is told READY once calls are accepted, and STOPPING", async (room) => {
  for (const name of [join(room.dir, "notify"), `@${room.namespace}`]) {
    using notifications = receiver(name);
    const config = await configFile(room, name.startsWith("@") ? "abstract" : "path");
    const daemon = await launchDaemon(room, ["--config", config], { NOTIFY_SOCKET: name });
    await until("READY=1", () => notifications.next() === "READY=1");
    await daemon.stop();
    await until("STOPPING=1", () => notifications.next() === "STOPPING=1");
  }
});

/** A datagram socket at a path, or at `@` and an abstract name; `next` is undefined while nothing has come. */
function receiver(name: string): { next(): string | undefined } & Disposable {
  const socket = native<(domain: number, type: number, protocol: number) => number>(
    "socket",
    "int",
    ["int", "int", "int"],
  );
  const bind = native<(fd: number, address: Buffer, length: number) => number>("bind", "int", [
    "int",
    "in",
    "uint",
  ]);
  const fd = check(socket(1, 2, 0), "socket");
  const path = name.startsWith("@") ? `\0${name.slice(1)}` : `${name}\0`;
  const address = Buffer.concat([Buffer.of(1, 0), Buffer.from(path)]);
  check(bind(fd, address, address.length), "bind", name);
  return {
    next() {
      try {
        return linux.recvmsg(fd, { bytesMax: 256, fdsMax: 1 }).data.toString();
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "EAGAIN") return undefined;
        throw error;
      }
    },
    [Symbol.dispose]: () => linux.close(fd),
  };
}
