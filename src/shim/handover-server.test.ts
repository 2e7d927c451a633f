import assert from "node:assert/strict";
import { fstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { DescriptorKeeper } from "#core/runtime/descriptor-keeper.ts";
import { type EndRole, formatManifest, hello, parseMessage } from "#core/runtime/handover.ts";
import { Context } from "#pkg/context.ts";
import { SOCK } from "#pkg/sys/constants.ts";
import { isSyscallError, SyscallError } from "#pkg/sys/errno.ts";
import { FdConnection } from "#pkg/sys/fd-passing.ts";
import { linux } from "#pkg/sys/linux.ts";
import { HandoverServer, type HandedOver } from "./handover-server.ts";
import { Inheritance } from "./inherited-ends.ts";
import type { IoEnd } from "./process-io.ts";

const ctx = Context.background();

/** A process whose ends are pipes. */
class Process implements HandedOver {
  readonly name: { containerId: string; execId: string };
  readonly pid: number;
  readonly fds = new Map<EndRole, number>();

  constructor(containerId: string, roles: readonly EndRole[], pid = 1) {
    this.name = { containerId, execId: "" };
    this.pid = pid;
    for (const role of roles) {
      const { read, write } = linux.pipe2(0);
      linux.close(write);
      this.fds.set(role, read);
    }
  }

  ends(): readonly IoEnd[] {
    return [...this.fds].map(([role, fd]) => ({ role, fd }));
  }

  drop(role: EndRole): void {
    linux.close(this.fds.get(role) ?? -1);
    this.fds.delete(role);
  }
}

async function eventually(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

function heldBy(keeper: DescriptorKeeper): [string, EndRole[]][] {
  return keeper.processes().map(({ containerId, ends }) => [containerId, [...ends.keys()]]);
}

suite("hand-over", () => {
  let dir: string;
  let path: string;
  let server: HandoverServer;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "handover-"));
    path = join(dir, "s");
    server = await HandoverServer.listen(ctx, linux, path);
  });

  afterEach(() => {
    server[Symbol.dispose]();
    rmSync(dir, { recursive: true });
  });

  const connect = (): Promise<DescriptorKeeper> => DescriptorKeeper.connect(ctx, linux, path);

  test("a daemon holds what there is, what comes, and no longer what goes", async () => {
    const first = new Process("c1", ["stdin", "stdout"]);
    server.changed(first);
    using keeper = await connect();
    assert.equal(await keeper.complete, true);
    assert.deepEqual(heldBy(keeper), [["c1", ["stdin", "stdout"]]]);
    const [held] = keeper.processes();
    const mine = fstatSync(first.fds.get("stdout") ?? -1).ino;
    assert.equal(fstatSync(held?.ends.get("stdout") ?? -1).ino, mine);
    assert.ok(linux.isCloseOnExec(held?.ends.get("stdout") ?? -1));
    const second = new Process("c2", ["pidfd"]);
    server.changed(second);
    first.drop("stdin");
    server.changed(first);
    await eventually("c2 is held", () => heldBy(keeper).length === 2);
    assert.deepEqual(heldBy(keeper), [
      ["c1", ["stdout"]],
      ["c2", ["pidfd"]],
    ]);
    second.drop("pidfd");
    first.drop("stdout");
    for (const process of [first, second]) server.changed(process);
    await eventually("none is held", () => heldBy(keeper).length === 0);
  });

  test("a name that is used again is the new process's", async () => {
    using keeper = await connect();
    const [old, young] = [new Process("c1", ["stdout"], 1), new Process("c1", ["stdout"], 2)];
    server.changed(old);
    old.drop("stdout");
    server.changed(old);
    server.changed(young);
    const mine = fstatSync(young.fds.get("stdout") ?? -1).ino;
    await eventually("the new one's is held", () => {
      const [held] = keeper.processes();
      const fd = held?.ends.get("stdout");
      return fd !== undefined && fstatSync(fd).ino === mine;
    });
    young.drop("stdout");
  });

  test("a name that was used again while changes were unsent is not the old process's", async () => {
    const old = new Process("c1", ["stdout", "pidfd"], 1);
    server.changed(old);
    using keeper = await connect();
    assert.equal(await keeper.complete, true);
    // The supervisor dies now; its successor finds another process of that name on record.
    const manifest = formatManifest(
      keeper.processes().map(({ ends, ...name }) => ({ ...name, roles: [...ends.keys()] })),
    );
    const closed: number[] = [];
    const sys = { close: (fd: number) => void closed.push(fd), setCloseOnExec: () => {} };
    const inheritance = Inheritance.read(sys, manifest.toString());
    assert.equal(inheritance.take(old.name, 2), undefined);
    assert.deepEqual(closed, []);
    using ends = inheritance.take(old.name, 1);
    assert.equal(ends?.take("pidfd"), 4);
    inheritance[Symbol.dispose]();
    for (const role of ["stdout", "pidfd"] as const) old.drop(role);
  });

  test("of a name that is used again nothing of the old process stays", async () => {
    using keeper = await connect();
    const old = new Process("c1", ["stdin", "stdout"], 1);
    server.changed(old);
    await eventually("it is held", () => heldBy(keeper).length === 1);
    const young = new Process("c1", ["terminal"], 2);
    server.changed(young);
    await eventually("the new one's is held", () => {
      return keeper.processes().some(({ pid }) => pid === 2);
    });
    assert.deepEqual(heldBy(keeper), [["c1", ["terminal"]]]);
    // What the old one releases late is not the new one's.
    for (const role of ["stdin", "stdout"] as const) old.drop(role);
    server.changed(old);
    const last = new Process("c2", ["stdin"], 3);
    server.changed(last);
    await eventually("all is read", () => heldBy(keeper).length === 2);
    assert.deepEqual(heldBy(keeper)[0], ["c1", ["terminal"]]);
    young.drop("terminal");
    last.drop("stdin");
  });

  test("a daemon that comes anew gets all of it, and the one before nothing more", async () => {
    const process = new Process("c1", ["terminal"]);
    server.changed(process);
    using first = await connect();
    assert.equal(await first.complete, true);
    using second = await connect();
    assert.equal(await second.complete, true);
    const more = new Process("c2", ["terminal"]);
    server.changed(more);
    await eventually("c2 is held", () => heldBy(second).length === 2);
    // What it had it keeps: its supervisor may be dead.
    assert.equal(heldBy(first).length, 1);
    for (const it of [process, more]) it.drop("terminal");
  });

  test("nothing waits for a daemon that does not read, and it gets the state of later", async () => {
    const processes = Array.from({ length: 600 }, (_, i) => new Process(`c${i}`, ["stdout"]));
    const connection = await FdConnection.connect(ctx, linux, path);
    using _connection = connection;
    const [ours, theirs] = linux.socketpair(SOCK.SEQPACKET, { nonBlocking: true });
    await connection.send(ctx, hello, [theirs]);
    linux.close(theirs);
    await eventually("it is greeted", () => messages(ours).includes("complete"));
    for (const process of processes) server.changed(process);
    for (const process of processes.slice(1)) {
      process.drop("stdout");
      server.changed(process);
    }
    const open = new Set<string>();
    await eventually("all is read", () => {
      for (const message of messages(ours)) {
        const [kind = "", id = ""] = message.split(" ");
        if (kind === "hold") open.add(id);
        else open.delete(id);
      }
      return open.size === 1 && open.has("c0");
    });
    linux.close(ours);
    processes[0]?.drop("stdout");
  });

  test("a daemon without room for a descriptor does without, and still releases others", async () => {
    const [full, other] = [new Process("c1", ["stdin"]), new Process("c2", ["stdin"])];
    let isFull = false;
    const sys = {
      ...linux,
      // As the kernel's message is taken when the process may open no more.
      recvmsg: (...args: Parameters<typeof linux.recvmsg>) => {
        const message = linux.recvmsg(...args);
        if (!isFull || message.fds.length === 0) return message;
        for (const fd of message.fds) linux.close(fd);
        throw new SyscallError("EMSGSIZE", "recvmsg");
      },
    };
    server.changed(other);
    using keeper = await DescriptorKeeper.connect(ctx, sys, path);
    assert.equal(await keeper.complete, true);
    isFull = true;
    server.changed(full);
    other.drop("stdin");
    server.changed(other);
    await eventually("none is held", () => heldBy(keeper).length === 0);
    full.drop("stdin");
  });

  test("who does not say hello is refused, and the next one is served", async () => {
    using stranger = await FdConnection.connect(ctx, linux, path);
    await stranger.send(ctx, Buffer.from("good day"), []);
    using keeper = await connect();
    assert.equal(await keeper.complete, true);
  });

  test("the end of the supervisor leaves what was held, also what was not read yet", async () => {
    const process = new Process("c1", ["stdout"]);
    const keeper = await connect();
    assert.equal(await keeper.complete, true);
    server.changed(process);
    server[Symbol.dispose]();
    process.drop("stdout");
    assert.deepEqual(heldBy(keeper), [["c1", ["stdout"]]]);
    assert.deepEqual(readdirSync(dir), []);
    const [held] = keeper.processes();
    keeper[Symbol.dispose]();
    assert.throws(() => fstatSync(held?.ends.get("stdout") ?? -1), { code: "EBADF" });
  });
});

/** `kind id` of all that can be read now; descriptors are closed. */
function messages(pair: number): string[] {
  const seen: string[] = [];
  for (;;) {
    try {
      const { data, fds } = linux.recvmsg(pair, { bytesMax: 1024, fdsMax: 16 });
      for (const fd of fds) linux.close(fd);
      const message = parseMessage(data);
      seen.push("containerId" in message ? `${message.kind} ${message.containerId}` : "complete");
    } catch (error) {
      if (isSyscallError(error, "EAGAIN")) return seen;
      throw error;
    }
  }
}
