import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import zlib from "node:zlib";
import { GrowingFile } from "#pkg/archive/growing-file.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { until } from "#test/support/processes.ts";
import { factsOf, file, layerOf, link, merged, needsRoot, scratch } from "./layer.ts";

const ctx = Context.background();

function linkOf(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    // -- the descriptor of the listing itself, and those closed meanwhile
    return "";
  }
}

describe("tree workers", { skip: needsRoot }, () => {
  test("unpack a layer that comes as a stream, many at once", async () => {
    await using workers = new TreeWorkers({ workersMax: 2 });
    const layer = zlib.gzipSync(layerOf(file("a", Buffer.alloc(3 << 20, "x"))));
    const stream = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      for (let at = 0; at < layer.length; at += 500) yield layer.subarray(at, at + 500);
    };
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        using root = scratch();
        const job = { kind: "apply", root: root.path, file: undefined, options: merged } as const;
        const applied = await workers.run(ctx, job, { input: stream() });
        assert.equal(applied.sizeBytes, layerOf(file("a", Buffer.alloc(3 << 20, "x"))).length);
        assert.equal(fs.statSync(path.join(root.path, "a")).size, 3 << 20);
      }),
    );
  });

  test("stop when the context ends, and the next job is served", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using root = scratch();
    const controller = new AbortController();
    const layer = layerOf(file("a", Buffer.alloc(4 << 20)));
    const stream = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      yield layer.subarray(0, 1 << 20);
      await until("the worker writes", () => fs.existsSync(path.join(root.path, "a")));
      controller.abort();
      await new Promise(() => {});
    };
    const job = { kind: "apply", root: root.path, file: undefined, options: merged } as const;
    await assert.rejects(
      workers.run(ctx.withSignal(controller.signal), job, { input: stream() }),
      (error) => codeOf(error) === "canceled",
    );
    const size = fs.statSync(path.join(root.path, "a")).size;
    assert.ok((await workers.run(ctx, { kind: "usage", path: root.path })).inodes === 2);
    assert.equal(fs.statSync(path.join(root.path, "a")).size, size);
  });

  test("leave no descriptor open when the context ends", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using root = scratch();
    // Of one directory: only between directories is a cancel looked for.
    for (let i = 0; i < 20_000; i++) fs.writeFileSync(path.join(root.path, `${i}`), "");
    fs.writeFileSync(path.join(root.path, "dirty"), Buffer.alloc(8 << 20, "x"));
    const open = (): string[] =>
      fs
        .readdirSync("/proc/self/fd")
        .map((fd) => linkOf(`/proc/self/fd/${fd}`))
        .filter((target) => target.startsWith(root.path));
    const usage = { kind: "usage", path: root.path } as const;
    for (const start of [
      (at: Context) => workers.run(at, usage),
      (at: Context) => workers.sync(at, root.path),
    ]) {
      for (let round = 0; round < 5; round++) {
        const controller = new AbortController();
        let isDone = false;
        const settled = Promise.allSettled([start(ctx.withSignal(controller.signal))]).then(() => {
          isDone = true;
        });
        await until("the worker is at it", () => isDone || open().length > 0, { everyMs: 1 });
        controller.abort();
        await settled;
        assert.deepEqual(open(), []);
      }
    }
  });

  test("stop reading a file along when the context ends, though the file go on growing", async (t) => {
    // What is left to the end of the thread would wait for ever.
    t.mock.timers.enable({ apis: ["setTimeout"] });
    await using workers = new TreeWorkers({ workersMax: 1 });
    using root = scratch();
    using files = scratch();
    const layer = path.join(files.path, "layer");
    fs.writeFileSync(layer, zlib.gzipSync(layerOf(file("a"))).subarray(0, 20));
    await using growing = await GrowingFile.open(layer, 20);
    const controller = new AbortController();
    const job = { kind: "apply", root: root.path, file: growing.fd, options: merged } as const;
    const running = workers.run(ctx.withSignal(controller.signal), job, { growing });
    // The job is under way to the worker; all that follows is, too, before the worker has begun.
    await nextTurn();
    controller.abort();
    growing.grown(20);
    await assert.rejects(running, (error) => codeOf(error) === "canceled");
  });

  test("say what the source of the bytes said when it failed", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using root = scratch();
    const stream = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      yield layerOf(file("a")).subarray(0, 512);
      throw new Error("the registry went away");
    };
    const job = { kind: "apply", root: root.path, file: undefined, options: merged } as const;
    await assert.rejects(workers.run(ctx, job, { input: stream() }), /the registry went away/);
  });

  test("copy a tree with its links, devices and attributes", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using from = scratch();
    using to = scratch();
    const layer = path.join(from.path, "layer.tar");
    const xattrs = new Map([["user.k", Buffer.from([1, 255])]]);
    const entries = [
      file("d/suid", "x", { mode: 0o4711, uid: 7, xattrs }),
      link("d/same", "d/suid", { mode: 0o4711, uid: 7 }),
      { type: "character", name: "c", device: { major: 1, minor: 3 }, mode: 0o640 } as const,
      { type: "symlink", name: "caf\xe9", linkName: "\xff", uid: 9 } as const,
    ];
    fs.writeFileSync(layer, layerOf(...entries));
    const source = path.join(from.path, "tree");
    fs.mkdirSync(source);
    const options = merged;
    await workers.run(ctx, { kind: "apply", root: source, file: layer, options });
    fs.chmodSync(source, 0o750);
    await workers.run(ctx, { kind: "copy", from: source, to: to.path });
    assert.deepEqual(factsOf(to.path), factsOf(source));
    const [a, b] = ["d/suid", "d/same"].map((n) => fs.statSync(path.join(to.path, n)));
    assert.equal(a?.ino, b?.ino);
    assert.equal(a?.mtimeMs, fs.statSync(path.join(source, "d/suid")).mtimeMs);
    const usage = await workers.run(ctx, { kind: "usage", path: to.path });
    assert.equal(usage.inodes, 5);
  });

  test("copy a file with holes with them, though it be larger than the disk", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using from = scratch();
    using to = scratch();
    const sizeBytes = 2 ** 40;
    const original = fs.openSync(path.join(from.path, "lastlog"), "w");
    for (const at of [0, 5_000_000, sizeBytes - 10]) fs.writeSync(original, "0123456789", at);
    fs.ftruncateSync(original, sizeBytes + 4096);
    fs.closeSync(original);
    await workers.run(ctx, { kind: "copy", from: from.path, to: to.path });
    const copy = path.join(to.path, "lastlog");
    assert.equal(fs.statSync(copy).size, sizeBytes + 4096);
    assert.ok(fs.statSync(copy).blocks * 512 < 1 << 20);
    const fd = fs.openSync(copy, "r");
    const buffer = Buffer.alloc(12);
    for (const at of [0, 5_000_000, sizeBytes - 10]) {
      fs.readSync(fd, buffer, 0, 12, at);
      assert.equal(buffer.toString(), "0123456789\0\0");
    }
    fs.closeSync(fd);
  });

  test("remove a tree deeper than any path may be long", async () => {
    await using workers = new TreeWorkers({ workersMax: 1 });
    using root = scratch();
    const name = "d".repeat(200);
    let at = path.join(root.path, "deep");
    fs.mkdirSync(at);
    // Beyond PATH_MAX only a mover can build it: each level is moved below a new one.
    for (let i = 0; i < 60; i++) {
      const next = path.join(root.path, `next-${i}`);
      fs.mkdirSync(next);
      fs.renameSync(at, path.join(next, name));
      at = next;
    }
    await workers.run(ctx, { kind: "remove", path: at });
    assert.deepEqual(fs.readdirSync(root.path), []);
    await workers.run(ctx, { kind: "remove", path: at });
  });

  test("brief jobs share the worker that is on its way; long ones have their own", async (t) => {
    // Nobody waits so long that another worker is started.
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const threads = (): number =>
      fs
        .readdirSync("/proc/self/task")
        .map((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim())
        .filter((name) => name === "tree-worker").length;
    for (const [pace, count] of [
      ["brief", 1],
      ["long", 3],
    ] as const) {
      await using workers = new TreeWorkers();
      using root = scratch();
      const usage = { kind: "usage", path: root.path } as const;
      await Promise.all([1, 2, 3].map(() => workers.run(ctx, usage, {}, pace)));
      assert.equal(threads(), count, pace);
    }
  });

  test("a brief job does not wait for a long one to end", async () => {
    await using workers = new TreeWorkers({ workersMax: 2 });
    using root = scratch();
    const rest = Promise.withResolvers<void>();
    const layer = layerOf(file("a"));
    const stream = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      yield layer.subarray(0, 512);
      await rest.promise;
      yield layer.subarray(512);
    };
    const job = { kind: "apply", root: root.path, file: undefined, options: merged } as const;
    const applied = workers.run(ctx, job, { input: stream() });
    using other = scratch();
    assert.equal((await workers.run(ctx, { kind: "usage", path: other.path })).inodes, 1);
    rest.resolve();
    await applied;
  });

  test("close() refuses the jobs that still wait, and starts nothing for them", async () => {
    const workers = new TreeWorkers({ workersMax: 1 });
    const usage = { kind: "usage", path: "/proc/self/task" } as const;
    const jobs = [1, 2, 3].map(() => workers.run(ctx, usage));
    const settled = Promise.allSettled(jobs);
    await workers.close();
    const codes = (await settled).map((job) => job.status === "rejected" && codeOf(job.reason));
    assert.deepEqual(codes.slice(1), ["unavailable", "unavailable"]);
  });

  test("close() ends them and refuses more", async () => {
    const workers = new TreeWorkers();
    await workers.close();
    await assert.rejects(
      workers.run(ctx, { kind: "usage", path: "/" }),
      (error) => codeOf(error) === "unavailable",
    );
  });
});
