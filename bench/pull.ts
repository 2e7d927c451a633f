import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject, StoreObject } from "#core/transfer/transfer.ts";
import { run, runOk } from "#test/support/command.ts";
import { buildImage, hostPlatform } from "#test/support/images.ts";
import { startDockerRegistry } from "#test/support/registry/docker-registry.ts";
import type { Bench } from "./bench.ts";
import { realisticLayer } from "./realistic-layer.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";
import { countSyncs } from "./syncs.ts";
import { clockTicksPerSecond, processorMs } from "./usage.ts";

const layerCount = 10;
const layerBytes = 45 << 20;

export const pull: Bench = {
  name: "pull",
  about:
    "pulling and unpacking ten layers of 45 MB from a registry on loopback, on tmpfs and on disk",
  rounds: 5,
  async measure(stage) {
    stage.say("   making the image");
    const layers = Array.from({ length: layerCount }, (_, i) =>
      realisticLayer({ seed: i + 1, bytes: stage.size(layerBytes) }),
    );
    const registry = await startDockerRegistry(stage.room);
    await registry.push(buildImage({ layers }), "bench/large", "1");
    const image = `${registry.host}/bench/large:1`;
    const ticks = await clockTicksPerSecond();
    const dir = join(stage.room.dir, "m");
    await mkdir(dir);
    await runOk(["mount", "-t", "tmpfs", "tmpfs", dir]);
    // Lazily: the daemons in it end first, and what they still write goes with it.
    stage.room.resources.defer(async () => {
      await run(["umount", "-l", dir]);
    });
    for (const [on, sides] of [
      ["tmpfs", await stage.startSides({ dir })],
      ["disk", await stage.startSides()],
    ] as const) {
      for (const way of ["transfer service", "ctr"] as const) {
        const given = { image, way, on, ticks };
        await stage.alternate(sides, (side) => pullAndRemove(stage, side, given));
      }
      if (on === "disk") await stage.alternate(sides, (side) => syncsOf(stage, side, image), 1);
    }
  },
};

interface Given {
  readonly image: string;
  readonly way: "transfer service" | "ctr";
  readonly on: string;
  readonly ticks: number;
}

async function pullAndRemove(
  stage: Stage,
  side: Side,
  { image, way, on, ticks }: Given,
): Promise<void> {
  // What others have left to write is not this side's.
  await runOk(["sync"], { timeoutMs: 600_000 });
  const label = `by ${way} on ${on}`;
  const used = async (): Promise<number> =>
    (await processorMs(side, ticks)) + (await childrenMs(ticks));
  const before = await used();
  const started = performance.now();
  await pullBy(way, side, image);
  const done = performance.now();
  stage.record(side, label, "ms", done - started);
  stage.record(side, `${label}, processor`, "ms", (await used()) - before);
  if (on === "disk") {
    await runOk(["sync", "-f", side.daemon.root], { timeoutMs: 600_000 });
    stage.record(side, `${label}, and all of it on the disk`, "ms", performance.now() - started);
  }
  await removeImage(side, image);
}

async function removeImage(side: Side, image: string): Promise<void> {
  await side.ctr("images", "rm", "--sync", image);
  const left = await side.ctr("content", "ls", "--quiet");
  if (left.trim() !== "") throw new Error(`${side.kind}: the collection left content:\n${left}`);
}

/** Debian's containerd has no transfer service: there, the client's own way stands in for it. */
async function pullBy(way: Given["way"], side: Side, image: string): Promise<void> {
  if (way === "ctr" || side.kind === "go") {
    await side.ctr("images", "pull", "--plain-http", image);
    return;
  }
  const source: RegistryObject = {
    kind: "registry",
    reference: image,
    headers: {},
    hostDir: "",
    defaultScheme: "http",
    credentials: undefined,
  };
  const store: StoreObject = {
    kind: "store",
    name: image,
    labels: {},
    platforms: [hostPlatform],
    allMetadata: false,
    manifestLimit: 1,
    references: [],
    unpacks: [{ platform: hostPlatform, snapshotter: "" }],
  };
  // What a client is shown is part of the work.
  let told = 0;
  const progress = (): void => void told++;
  await new GrpcTransferrer(side.transport).transfer(side.ctx, source, store, { progress });
  if (told === 0) throw new Error("the daemon told nothing of the pull");
}

/** Apart from the times: being traced costs more than the syncs do. */
async function syncsOf(stage: Stage, side: Side, image: string): Promise<void> {
  const syncs = await countSyncs(side.daemon.pid, () => pullBy("transfer service", side, image));
  for (const [call, count] of syncs) {
    stage.record(side, `by transfer service on disk, ${call}`, "calls", count);
  }
  await removeImage(side, image);
}

/** Milliseconds of processor time of ended children of this process: the client's share. */
async function childrenMs(ticksPerSecond: number): Promise<number> {
  const stat = await readFile("/proc/self/stat", "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[13]) + Number(fields[14])) * 1000) / ticksPerSecond;
}
