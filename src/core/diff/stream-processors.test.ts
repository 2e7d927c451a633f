import assert from "node:assert/strict";
import { chmod, mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import {
  findProgram,
  processorEnv,
  type StreamProcessor,
  stepsToLayer,
} from "#core/diff/stream-processors.ts";
import { codeOf } from "#pkg/errors.ts";

const tar = "application/vnd.oci.image.layer.v1.tar";

function processor(id: string, accepts: readonly string[], returns: string): StreamProcessor {
  return { id, accepts, returns, path: id, args: [], env: [] };
}

function ids(processors: readonly StreamProcessor[], mediaType: string): string[] {
  return stepsToLayer(processors, mediaType).map(
    (step) => `${step.processor.id}<${step.mediaType}`,
  );
}

test("stepsToLayer() goes on until there is a layer", () => {
  const all = [processor("b", ["y"], `${tar}+gzip`), processor("a", ["w", "x"], "y")];
  assert.deepEqual(ids(all, "x"), ["a<x", "b<y"]);
  assert.deepEqual(ids(all, "y"), ["b<y"]);
  assert.deepEqual(ids(all, tar), []);
  assert.deepEqual(ids(all, `${tar}+zstd`), []);
});

test("stepsToLayer() asks the configuration first, once for a plain layer", () => {
  const all = [processor("p", [tar, `${tar}+gzip`], tar)];
  assert.deepEqual(ids(all, tar), [`p<${tar}`]);
  assert.deepEqual(ids(all, `${tar}+gzip`), [`p<${tar}+gzip`]);
});

test("stepsToLayer() refuses what ends nowhere, or never", () => {
  const all = [processor("a", ["x"], "y"), processor("b", ["y"], "x"), processor("c", ["z"], "?")];
  for (const [mediaType, message] of [
    ["z", /^failed to get stream processor for z: no processor for media-type/],
    ["q", /^failed to get stream processor for q: no processor for media-type/],
    ["x", /^failed to get stream processor for x: more than 8 processors/],
  ] as const) {
    assert.throws(
      () => stepsToLayer(all, mediaType),
      (error: Error) => codeOf(error) === "not-implemented" && message.test(error.message),
    );
  }
});

test("findProgram() takes the first that can be run, never from the working directory", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "programs-"));
  for (const name of ["a", "b", "c/p"]) await mkdir(join(dir.path, name), { recursive: true });
  await writeFile(join(dir.path, "a/p"), "");
  await writeFile(join(dir.path, "b/p"), "");
  await chmod(join(dir.path, "b/p"), 0o755);
  const PATH = `:${dir.path}/c:${dir.path}/none:${dir.path}/a:${dir.path}/b`;
  // An executable bit counts for root too: access(2) says so only where nobody has it.
  assert.equal(await findProgram("p", { PATH }), `${dir.path}/b/p`);
  assert.equal(await findProgram("./p", { PATH }), "./p");
  await assert.rejects(findProgram("q", { PATH }), {
    message: 'exec: "q": executable file not found in $PATH',
  });
  await assert.rejects(findProgram("p", { PATH: relative(".", `${dir.path}/b`) }), /not found/);
  await assert.rejects(findProgram("q", {}), /executable file not found/);
});

test("processorEnv() lays the processor's own over the daemon's", () => {
  const own = { PATH: "/bin", A: "1", CONTAINERD_NOFILE_SOFT: "1024" };
  const with_ = { ...processor("p", [], ""), env: ["A=2=3", "B", "STREAM_PROCESSOR_MEDIATYPE=x"] };
  const expected = { PATH: "/bin", A: "2=3", B: "", STREAM_PROCESSOR_MEDIATYPE: "m" };
  assert.deepEqual(processorEnv(own, with_, "m"), expected);
});
