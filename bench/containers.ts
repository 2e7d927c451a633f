import type { Container } from "#api/services/containers/v1/containers_pb.ts";
import { codeOf } from "#pkg/errors.ts";
import { busybox, type Side } from "./side.ts";
import type { Stage } from "./stage.ts";

const processType = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/** Starts containers as a client does that keeps no command beside them: through RPC, with no stdio. */
export class ContainerMaker {
  readonly #side: Side;
  readonly #container: Container;
  readonly #spec: Record<string, unknown>;
  readonly #parent: string;

  private constructor(side: Side, container: Container, parent: string) {
    this.#side = side;
    this.#container = container;
    this.#parent = parent;
    const text = Buffer.from(container.spec?.value ?? new Uint8Array()).toString("utf8");
    this.#spec = JSON.parse(text) as Record<string, unknown>; // -- what ctr has written, unread
  }

  /** Imports the image and has `ctr` write a specification once, which all containers are made from. */
  static async open(side: Side): Promise<ContainerMaker> {
    await side.importBusybox();
    const id = side.id("template");
    await side.ctr("containers", "create", ...side.runtimeFlags, busybox, id, "true");
    const { container } = await side.containers.get(side.ctx, { id });
    if (container === undefined) throw new Error(`${id}: no container in the answer`);
    const { snapshotter } = container;
    const { info } = await side.snapshots.stat(side.ctx, { snapshotter, key: id });
    await side.ctr("containers", "rm", id);
    return new ContainerMaker(side, container, info?.parent ?? "");
  }

  /**
   * The record and the snapshot; the mounts go into `createTask`. The record first and, in `remove`, last: it is what
   * keeps a collection from taking the snapshot.
   */
  async create(id: string, args: readonly string[], { terminal = false } = {}) {
    const { ctx, containers, snapshots } = this.#side;
    const { image, labels, runtime, snapshotter } = this.#container;
    const spec = this.#specOf(id, args, terminal);
    const own = { id, snapshotKey: id, spec, image, labels, snapshotter };
    await containers.create(ctx, { container: { ...own, ...(runtime && { runtime }) } });
    const { mounts } = await snapshots.prepare(ctx, { snapshotter, key: id, parent: this.#parent });
    return mounts;
  }

  /** For an exec in one of its containers. */
  processSpec(args: readonly string[]) {
    const { process } = this.#spec as { process: object }; // -- ctr's own
    return { typeUrl: processType, value: Buffer.from(JSON.stringify({ ...process, args })) };
  }

  #specOf(id: string, args: readonly string[], terminal: boolean) {
    const { process, linux } = this.#spec as { process: object; linux: object }; // -- ctr's own
    const cgroupsPath = `/${this.#side.ctx.namespace}/${id}`;
    const spec = {
      ...this.#spec,
      process: { ...process, args, terminal },
      linux: { ...linux, cgroupsPath },
    };
    const value = Buffer.from(JSON.stringify(spec));
    return { typeUrl: this.#container.spec?.typeUrl ?? "", value };
  }

  /** Creates and starts; returns the pid of its first process. */
  async start(id: string, args: readonly string[]): Promise<number> {
    const { ctx, tasks } = this.#side;
    const rootfs = await this.create(id, args);
    await tasks.create(ctx, { containerId: id, rootfs });
    const { pid } = await tasks.start(ctx, { containerId: id });
    return pid;
  }

  async startMany(ids: readonly string[], args: readonly string[]): Promise<number[]> {
    const pids: number[] = [];
    await inParallel(4, ids, async (id) => {
      pids.push(await this.start(id, args));
    });
    return pids;
  }

  /** The record and the snapshot of a container without a task. */
  async remove(id: string): Promise<void> {
    const { ctx, containers, snapshots } = this.#side;
    await snapshots.remove(ctx, { snapshotter: this.#container.snapshotter, key: id });
    await containers.delete(ctx, { id });
  }

  /** Kills, waits, and removes everything of a container that runs. */
  async end(id: string): Promise<void> {
    const { ctx, tasks } = this.#side;
    const exit = tasks.wait(ctx, { containerId: id });
    const kill = tasks.kill(ctx, { containerId: id, signal: 9, all: true });
    for (const result of await Promise.allSettled([kill, exit])) {
      if (result.status === "rejected") throw result.reason;
    }
    await tasks.delete(ctx, { containerId: id });
    await this.remove(id);
  }

  /** As `end`, for those of the list that are there; also where a bench has failed halfway. */
  async endMany(ids: readonly string[]): Promise<void> {
    await inParallel(4, ids, async (id) => {
      try {
        await this.end(id);
      } catch (error) {
        if (codeOf(error) !== "not-found") throw error;
      }
    });
  }
}

/** Containers that sleep until the bench has ended. */
export async function sleepers(
  stage: Stage,
  { side, maker, ids }: { side: Side; maker: ContainerMaker; ids: readonly string[] },
): Promise<number[]> {
  stage.room.resources.defer(() => maker.endMany(ids));
  stage.say(`   ${side.kind}: starting ${ids.length} containers`);
  return maker.startMany(ids, ["sleep", "1000000"]);
}

/** At most `width` at a time, in order. The first failure ends it once those under way have ended. */
export async function inParallel<T>(
  width: number,
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) await work(item, index);
  };
  const results = await Promise.allSettled(Array.from({ length: width }, worker));
  const failure = results.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}
