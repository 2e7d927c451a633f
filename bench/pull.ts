import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject, StoreObject } from "#core/transfer/transfer.ts";
import { run, runOk } from "#test/support/command.ts";
import { debianProgram, hasNewer, newerProgram } from "#test/support/debian.ts";
import { buildImage, hostPlatform } from "#test/support/images.ts";
import { whyNot } from "#test/support/needs.ts";
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
    const go = await goOfPulls(stage);
    for (const [on, dir] of [
      ["tmpfs", await mounted(stage, ["-t", "tmpfs", "tmpfs"])],
      ["disk", await diskOf(stage)],
    ] as const) {
      const sides = await stage.startSides({ dir, goProgram: go.program });
      for (const way of ["transfer service", "ctr"] as const) {
        const given = { image, way, on, ticks, go };
        await stage.alternate(sides, (side) => pullAndRemove(stage, side, given));
      }
      if (on === "disk") await stage.alternate(sides, (side) => syncsOf(stage, side, image, go), 1);
    }
  },
};

/** The Go side of the comparison; undefined: the one of the other benches. */
interface GoOfPulls {
  readonly program: string | undefined;
  readonly hasTransfer: boolean;
  /** Makes `ctr` fetch by itself, where it would ask the transfer service. */
  readonly localFlags: readonly string[];
}

/** Debian's own release has no transfer service, so that of a newer one is taken, unless another Go was asked for. */
async function goOfPulls(stage: Stage): Promise<GoOfPulls> {
  const isChosen = process.env["CONTAINERD_TEST_GO"] !== undefined;
  const program = !isChosen && hasNewer("sid") ? newerProgram("sid", "containerd") : undefined;
  const version = await runOk([program ?? debianProgram("containerd"), "--version"]);
  const hasTransfer = isChosen || program !== undefined;
  const how = hasTransfer
    ? ""
    : ", which has no transfer service: there ctr's way stands in for it";
  stage.say(`   Go in this bench: ${version.trim()}${how}`);
  const help = await runOk([debianProgram("ctr"), "images", "pull", "--help"]);
  return { program, hasTransfer, localFlags: /^ *--local\b/m.test(help) ? ["--local"] : [] };
}

/** A folder of the room with a file system of its own, which goes with the room. */
async function mounted(stage: Stage, what: readonly string[]): Promise<string> {
  const dir = join(stage.room.dir, `on-${what[1]}`);
  await mkdir(dir);
  await runOk(["mount", ...what, dir]);
  // Lazily: the daemons in it end first, and what they still write goes with it.
  stage.room.resources.defer(async () => {
    await run(["umount", "-l", dir]);
  });
  return dir;
}

/**
 * An ext4 with a journal, in a file. Without one, as the machine's own may be, the kernel does not reuse an inode for
 * minutes after its file was removed, and looks for each new one past all of those: a bench that pulls and removes
 * would measure that.
 */
async function diskOf(stage: Stage): Promise<string> {
  const refusal = whyNot(["loop"]);
  if (refusal !== undefined) {
    stage.say(`   on the machine's own file system: ${refusal}`);
    return stage.room.dir;
  }
  const file = join(stage.room.dir, "disk");
  await runOk(["truncate", "-s", "12G", file]);
  await runOk(["mkfs.ext4", "-q", "-F", file]);
  return mounted(stage, ["-o", "loop", file]);
}

interface Given {
  readonly image: string;
  readonly way: "transfer service" | "ctr";
  readonly on: string;
  readonly ticks: number;
  readonly go: GoOfPulls;
}

async function pullAndRemove(
  stage: Stage,
  side: Side,
  { image, way, on, ticks, go }: Given,
): Promise<void> {
  // What others have left to write is not this side's.
  await runOk(["sync"], { timeoutMs: 600_000 });
  const label = `by ${way} on ${on}`;
  const used = async (): Promise<number> =>
    (await processorMs(side, ticks)) + (await childrenMs(ticks));
  const before = await used();
  const started = performance.now();
  await pullBy(way, side, image, go);
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

async function pullBy(
  way: Given["way"],
  side: Side,
  image: string,
  { hasTransfer, localFlags }: GoOfPulls,
): Promise<void> {
  if (way === "ctr" || (side.kind === "go" && !hasTransfer)) {
    await side.ctr("images", "pull", ...localFlags, "--plain-http", image);
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
async function syncsOf(stage: Stage, side: Side, image: string, go: GoOfPulls): Promise<void> {
  const pull = (): Promise<void> => pullBy("transfer service", side, image, go);
  const syncs = await countSyncs(side.daemon.pid, pull);
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
