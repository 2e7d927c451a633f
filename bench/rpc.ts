import { createHash, randomBytes } from "node:crypto";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { parseDigest } from "#pkg/digest.ts";
import type { Bench } from "./bench.ts";
import { inParallel } from "./containers.ts";
import type { Side } from "./side.ts";
import type { Stage } from "./stage.ts";
import { clockTicksPerSecond, processorMs } from "./usage.ts";

const listed = 50;
const chunkBytes = 1 << 20;

export const rpc: Bench = {
  name: "rpc",
  about: "calls per second and processor time per call, and a blob of 256 MiB to and fro",
  rounds: 5,
  async measure(stage) {
    const sides = await stage.startSides();
    const ticks = await clockTicksPerSecond();
    for (const side of sides) await makeContainers(side, listed);
    const calls = [
      { name: "Version", count: 3000, call: (side: Side) => side.version.version(side.ctx, {}) },
      {
        name: `Containers.List of ${listed}`,
        count: 300,
        call: (side: Side) => side.containers.list(side.ctx, {}),
      },
    ];
    for (const { name, call, count } of calls) {
      for (const width of [1, 16]) {
        const burst: Burst = { call, width, count: stage.size(count, 10) };
        await stage.alternate(sides, (side) => callMany(side, burst).then(() => undefined), 1);
        await stage.alternate(sides, async (side) => {
          const before = await processorMs(side, ticks);
          const ms = await callMany(side, burst);
          const used = (await processorMs(side, ticks)) - before;
          const label = `${name}, ${width} at a time`;
          stage.record(side, label, "calls/s", (burst.count / ms) * 1000);
          if (used > 0) {
            stage.record(side, `${label}, processor`, "us", (used / burst.count) * 1000);
          }
        });
      }
    }
    await stage.alternate(
      sides,
      (side, round) => transfer(stage, side, round),
      Math.min(stage.rounds, 3),
    );
  },
};

interface Burst {
  readonly call: (side: Side) => Promise<unknown>;
  readonly width: number;
  readonly count: number;
}

async function callMany(side: Side, { call, width, count }: Burst): Promise<number> {
  const started = performance.now();
  await inParallel(width, Array.from({ length: count }), async () => {
    await call(side);
  });
  return performance.now() - started;
}

/** Records alone, as large as those of `ctr` are. */
async function makeContainers(side: Side, count: number): Promise<void> {
  const spec = { typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec" };
  const value = Buffer.from(JSON.stringify({ padding: "x".repeat(8000) }));
  for (let i = 0; i < count; i++) {
    const runtime = { name: "io.containerd.runc.v2" };
    const container = { id: side.id(`r${i}`), runtime, spec: { ...spec, value } };
    await side.containers.create(side.ctx, { container });
  }
}

/** Bytes no side has seen, written as clients do: each chunk answered before the next goes. */
async function transfer(stage: Stage, side: Side, round: number): Promise<void> {
  const chunks = stage.size(256);
  const chunk = randomBytes(chunkBytes);
  const store = new ProxyContentStore(side.transport);
  const hash = createHash("sha256");
  for (let i = 0; i < chunks; i++) hash.update(chunk);
  const expected = parseDigest(`sha256:${hash.digest("hex")}`);
  const started = performance.now();
  await using writer = await store.writer(side.ctx, { ref: side.id(`blob${round}`) });
  for (let i = 0; i < chunks; i++) await writer.write(chunk);
  const written = performance.now();
  await writer.commit(side.ctx, { expected, sizeBytes: chunks * chunkBytes });
  const committed = performance.now();
  const rate = (ms: number): number => (chunks * chunkBytes) / 2 ** 20 / (ms / 1000);
  stage.record(side, "content write", "MB/s", rate(written - started));
  stage.record(side, "content commit", "ms", committed - written);
  let read = 0;
  const reading = performance.now();
  for await (const { data } of side.content.read(side.ctx, { digest: expected })) {
    read += data.length;
  }
  if (read !== chunks * chunkBytes) throw new Error(`${side.kind}: read ${read} bytes`);
  stage.record(side, "content read", "MB/s", rate(performance.now() - reading));
  await side.content.delete(side.ctx, { digest: expected });
}
