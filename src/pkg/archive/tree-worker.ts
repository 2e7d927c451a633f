import assert from "node:assert";
import { dirname, basename } from "node:path";
import { parentPort } from "node:worker_threads";
import { adoptLayer } from "#pkg/archive/adopt-layer.ts";
import { applyLayer } from "#pkg/archive/apply-layer.ts";
import type { Growth } from "#pkg/archive/growing-file.ts";
import { readFileChunks, readGrowingFile } from "#pkg/archive/layer-source.ts";
import {
  chunksUnderWayMax,
  type ComparedTrees,
  type FromWorker,
  type ToWorker,
  type TreeJob,
  type TreeJobs,
} from "#pkg/archive/tree-job.ts";
import { removeTree, treeUsage } from "#pkg/archive/tree-walk.ts";
import { writeLayer } from "#pkg/archive/write-layer.ts";
import { CodedError, codeOf, isErrno, messageOf } from "#pkg/errors.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { compareTrees } from "#pkg/archive/compare-trees.ts";
import { copyTree } from "#pkg/archive/copy-tree.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Fd } from "#pkg/sys/syscall.ts";

// The entry of a worker thread: one job at a time, asked for and answered by messages
// (tree-job.ts).

const port = parentPort;
assert(port, "runs as a worker thread only");

type Chunk = { readonly chunk: Uint8Array } | "end";

const input: Chunk[] = [];
let onInput: (() => void) | undefined;

async function* inputChunks(): AsyncGenerator<Buffer, void, undefined> {
  for (;;) {
    const next = input.shift();
    if (next === "end") return;
    if (next) {
      yield Buffer.from(next.chunk.buffer, next.chunk.byteOffset, next.chunk.byteLength);
      send({ type: "credit" });
      continue;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    onInput = resolve;
    await promise;
  }
}

let growth: Growth = { heldBytes: 0, end: undefined };
let onGrowth: (() => void) | undefined;

function growthChanged(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  onGrowth = resolve;
  return promise;
}

let outputCredits = 0;
let onOutputCredit: (() => void) | undefined;

async function output(chunk: Buffer): Promise<void> {
  while (outputCredits === 0) {
    const { promise, resolve } = Promise.withResolvers<void>();
    onOutputCredit = resolve;
    await promise;
  }
  outputCredits--;
  // A copy: a compressor's output may be part of a buffer it goes on filling.
  const copy = new Uint8Array(chunk);
  port?.postMessage({ type: "output", chunk: copy } satisfies FromWorker, [copy.buffer]);
}

function send(message: FromWorker): void {
  port?.postMessage(message);
}

async function perform(job: TreeJob, checkpoint: () => void): Promise<unknown> {
  switch (job.kind) {
    case "apply":
      return applyLayer(linux, job.root, layerOf(job), job.options, checkpoint);
    case "compare":
      return compare(job, checkpoint);
    case "adopt":
      return adoptLayer(linux, job.root, job.parents, job.questions);
    case "usage":
      return withDirectory(job.path, (fd) => treeUsage(linux, fd, checkpoint));
    case "remove":
      return remove(job.path);
    case "copy":
      return withDirectory(job.from, (from) => {
        withDirectory(job.to, (to) => copyTree(linux, from, to, checkpoint));
      });
    case "sync":
      return linux.syncfs(job.fd);
  }
}

function layerOf({ file }: TreeJobs["apply"]["job"]): AsyncIterable<Buffer> {
  if (file === undefined) return inputChunks();
  if (typeof file === "string") return readFileChunks(file);
  return readGrowingFile(file, () => growth, growthChanged);
}

async function compare(
  { lower, upper, mtimeMaxNs, compression }: TreeJobs["compare"]["job"],
  checkpoint: () => void,
): Promise<ComparedTrees> {
  const open = (path: string): Fd => linux.openat(AT.FDCWD, path, O.RDONLY | O.DIRECTORY);
  using fds = new DisposableStack();
  const lowerFd = fds.adopt(open(lower), (fd) => linux.close(fd));
  const upperFd = fds.adopt(open(upper), (fd) => linux.close(fd));
  const layer = compareTrees(linux, { lower: lowerFd, upper: upperFd, mtimeMaxNs });
  // Awaited here: the directories must stay open until the last byte is read.
  return await writeLayer(layer, compression, output, checkpoint);
}

function withDirectory<T>(path: string, use: (fd: Fd) => T): T {
  const fd = linux.openat(AT.FDCWD, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  try {
    return use(fd);
  } finally {
    linux.close(fd);
  }
}

function remove(path: string): undefined {
  const parent = openDirectory(dirname(path));
  if (parent === undefined) return;
  try {
    removeTree(linux, parent, Buffer.from(basename(path)).toString("latin1"));
  } finally {
    linux.close(parent);
  }
}

function openDirectory(path: string): number | undefined {
  try {
    return linux.openat(AT.FDCWD, path, O.RDONLY | O.DIRECTORY);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function run(job: TreeJob, cancel: SharedArrayBuffer): Promise<void> {
  const flag = new Int32Array(cancel);
  const checkpoint = (): void => {
    if (Atomics.load(flag, 0) !== 0) throw new CodedError("canceled", "context canceled");
  };
  input.length = 0;
  growth = { heldBytes: 0, end: undefined };
  outputCredits = chunksUnderWayMax;
  try {
    send({ type: "done", result: await perform(job, checkpoint) });
  } catch (error) {
    send({ type: "failed", code: codeOf(error), message: messageOf(error) });
  }
}

port.on("message", (message: ToWorker) => {
  if (message.type === "job") {
    void run(message.job, message.cancel);
    return;
  }
  if (message.type === "growth") {
    // Given up, the file may go on growing for others.
    if (growth.end !== "broken") growth = message.growth;
    onGrowth?.();
    return;
  }
  if (message.type === "output-credit") {
    outputCredits++;
    onOutputCredit?.();
    return;
  }
  input.push(message.type === "end" ? "end" : { chunk: message.chunk });
  onInput?.();
});

send({ type: "ready" });
