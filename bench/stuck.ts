import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { constants, type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isErrno } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Bench } from "./bench.ts";
import { ContainerMaker, inParallel, sleepers } from "./containers.ts";
import { quantile } from "./measures.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";

export const stuck: Bench = {
  name: "stuck",
  about: "execs in twenty containers, before and beside others that are frozen, unread and full",
  rounds: 10,
  async measure(stage) {
    const sides = await stage.startSides();
    const benches = new Map<Side, Execs>();
    for (const side of sides) {
      const maker = await ContainerMaker.open(side);
      const ids = Array.from({ length: stage.size(20) }, (_, i) => side.id(`c${i}`));
      await sleepers(stage, { side, maker, ids });
      benches.set(side, new Execs(stage, side, { maker, ids }));
    }
    await stage.alternate(sides, async (side) => benches.get(side)?.round("before"));
    for (const bench of benches.values()) await bench.stick();
    await stage.alternate(sides, async (side) => benches.get(side)?.round("beside stuck ones"));
    for (const bench of benches.values()) {
      bench.record();
      await bench.unstick();
    }
  },
};

type When = "before" | "beside stuck ones";

/** Execs through RPC, without `ctr`, whose own time would hide what the daemon and its shims take. */
class Execs {
  readonly #stage: Stage;
  readonly #side: Side;
  readonly #maker: ContainerMaker;
  readonly #ids: readonly string[];
  readonly #times: Record<When, number[]> = { before: [], "beside stuck ones": [] };
  readonly #undo = new AsyncDisposableStack();
  readonly #afterEnd = new AsyncDisposableStack();
  #serial = 0;

  constructor(
    stage: Stage,
    side: Side,
    { maker, ids }: { maker: ContainerMaker; ids: readonly string[] },
  ) {
    this.#stage = stage;
    this.#side = side;
    this.#maker = maker;
    this.#ids = ids;
    stage.room.resources.use(this.#afterEnd);
    stage.room.resources.use(this.#undo);
  }

  async round(when: When): Promise<void> {
    await inParallel(4, this.#ids, async (containerId) => {
      const started = performance.now();
      await this.#exec(containerId);
      this.#times[when].push(performance.now() - started);
    });
  }

  record(): void {
    const { before, "beside stuck ones": beside } = this.#times;
    this.#stage.recordTail(this.#side, "exec", before);
    this.#stage.recordTail(this.#side, "exec beside stuck ones", beside);
    const ratio = quantile(beside, 0.99) / quantile(before, 0.99);
    this.#stage.record(this.#side, "p99 beside stuck ones, over that before", "times", ratio);
  }

  /** One whose output nobody reads, one whose terminal is full both ways, one frozen within an exec. */
  async stick(): Promise<void> {
    const { ctx, tasks } = this.#side;
    const { namespace } = this.#stage.room;
    const noise = "while :; do echo 0123456789012345678901234567890123456789; done";
    const unread = await this.#fifo("unread");
    await this.#start("unread", { script: noise, stdout: unread.path });
    this.#readAtEnd(unread.path);
    const input = await this.#fifo("in");
    await this.#start("full", {
      script: "stty -echo -icanon; sleep 1000000",
      terminal: true,
      stdin: input.path,
      stdout: (await this.#fifo("out")).path,
    });
    await fill(input.handle);
    const frozen = this.#side.id("frozen");
    await this.#start("frozen", { script: "sleep 1000000" });
    setFrozen(namespace, frozen, true);
    this.#undo.defer(() => setFrozen(namespace, frozen, false));
    const execId = await this.#addExec(frozen);
    const starting = tasks.start(ctx, { containerId: frozen, execId });
    this.#undo.defer(async () => {
      // -- a runtime may refuse it once it thaws, or not
      await starting.catch(() => undefined);
    });
    starting.catch(() => undefined);
  }

  async unstick(): Promise<void> {
    await this.#undo.disposeAsync();
    await this.#afterEnd.disposeAsync();
  }

  async #start(
    name: string,
    how: { script: string; terminal?: boolean; stdin?: string; stdout?: string },
  ): Promise<void> {
    const { ctx, tasks } = this.#side;
    const id = this.#side.id(name);
    const { script, terminal = false, stdin = "", stdout = "" } = how;
    const rootfs = await this.#maker.create(id, ["sh", "-c", script], { terminal });
    this.#undo.defer(() => this.#maker.end(id));
    // -- Go's shim takes an error stream for given where an output is
    const stderr = terminal ? "" : stdout;
    await tasks.create(ctx, { containerId: id, rootfs, terminal, stdin, stdout, stderr });
    await tasks.start(ctx, { containerId: id });
  }

  /** Open at once, as a client has it: a shim waits for the other end. */
  async #fifo(name: string): Promise<{ path: string; handle: FileHandle }> {
    const path = join(this.#stage.room.dir, this.#side.id(name));
    linux.mkfifo(path, 0o600);
    const handle = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
    this.#undo.defer(() => handle.close());
    return { path, handle };
  }

  /** Go's shim does not delete a task before all of its output has been taken. */
  #readAtEnd(path: string): void {
    this.#undo.defer(() => {
      const reader = spawn("cat", [path], { stdio: "ignore" });
      this.#afterEnd.defer(() => {
        reader.kill("SIGKILL");
      });
    });
  }

  async #addExec(containerId: string): Promise<string> {
    const { ctx, tasks } = this.#side;
    const execId = `e${this.#serial++}`;
    const spec = this.#maker.processSpec(["true"]);
    await tasks.exec(ctx, { containerId, execId, spec });
    return execId;
  }

  async #exec(containerId: string): Promise<void> {
    const { ctx, tasks } = this.#side;
    const exec = { containerId, execId: await this.#addExec(containerId) };
    const exit = tasks.wait(ctx, exec);
    await tasks.start(ctx, exec);
    const { exitStatus } = await exit;
    if (exitStatus !== 0) throw new Error(`${containerId}: an exec ended with ${exitStatus}`);
    await tasks.deleteProcess(ctx, exec);
  }
}

/** Writes until nothing more is taken: the pipe is full, and the terminal behind it. */
async function fill(pipe: FileHandle): Promise<void> {
  const bytes = Buffer.alloc(4096, "x");
  for (let refusals = 0; refusals < 3; ) {
    try {
      await pipe.write(bytes);
      refusals = 0;
    } catch (error) {
      if (!isErrno(error, "EAGAIN")) throw error;
      refusals++;
      await delay(100);
    }
  }
}

function setFrozen(namespace: string, id: string, isFrozen: boolean): void {
  const v1 = join("/sys/fs/cgroup/freezer", namespace, id, "freezer.state");
  if (existsSync(v1)) writeFileSync(v1, isFrozen ? "FROZEN" : "THAWED");
  else writeFileSync(join("/sys/fs/cgroup", namespace, id, "cgroup.freeze"), isFrozen ? "1" : "0");
}
