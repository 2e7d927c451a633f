import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { DeleteResponseSchema } from "#api/runtime/task/v3/shim_pb.ts";
import type { ProgramRequest, ProgramResult } from "#core/runtime/program.ts";
import { ShimCommand, type ShimHost } from "#core/runtime/shim-command.ts";
import { Context } from "#pkg/context.ts";
import type { LogLevel } from "#pkg/log.ts";

const bundle = { id: "c1", namespace: "ns", path: "/state/ns/c1", work: "/root/ns/c1" };

interface Bench {
  readonly command: ShimCommand;
  readonly requests: ProgramRequest[];
}

async function bench(t: TestContext, logLevel: LogLevel): Promise<Bench> {
  const dir = await mkdtemp(join(tmpdir(), "shim-command-"));
  t.after(() => rm(dir, { recursive: true }));
  const path = join(dir, "containerd-shim-x-v1");
  await writeFile(path, "");
  const requests: ProgramRequest[] = [];
  const said = (stdout: Uint8Array): ProgramResult => {
    return { failure: "", exitCode: 0, stdout, stderr: new Uint8Array() };
  };
  const host: ShimHost = {
    programs: {
      async run(_ctx, request) {
        requests.push(request);
        const isDelete = request.args.includes("delete");
        if (isDelete) return said(toBinary(DeleteResponseSchema, create(DeleteResponseSchema)));
        return said(Buffer.from("unix:///s"));
      },
      launch: () => {
        throw new Error("not here");
      },
    },
    grpcAddress: "/d.sock",
    ttrpcAddress: "/d.sock.ttrpc",
    socketDir: "/s",
    containerdBinary: "/bin/containerd",
    version: "1",
    logLevel,
    env: { PATH: "/bin", NAMESPACE: "of the daemon", SCHED_CORE: "0" },
    shimEnv: { SCHED_CORE: "1", GOMAXPROCS: "7" },
  };
  return { command: new ShimCommand(path, host), requests };
}

const flags = ["-namespace", "ns", "-address", "/d.sock", "-publish-binary", "/bin/containerd"];
const env = {
  PATH: "/bin",
  NAMESPACE: "ns",
  TTRPC_ADDRESS: "/d.sock.ttrpc",
  GRPC_ADDRESS: "/d.sock",
  MAX_SHIM_VERSION: "2",
  // What the configuration sets wins.
  SCHED_CORE: "1",
  GOMAXPROCS: "7",
};

test("a shim is started and deleted in its bundle, with upstream's flags and environment", async (t) => {
  const { command, requests } = await bench(t, "info");
  await command.start(Context.background(), bundle, undefined);
  await command.delete(Context.background(), bundle);
  const [asked, started, deleted] = requests;
  assert.deepEqual(asked?.args, ["-info"]);
  assert.deepEqual(started?.args, [...flags, "-id", "c1", "start"]);
  assert.deepEqual(deleted?.args, [...flags, "-id", "c1", "-bundle", bundle.path, "delete"]);
  for (const request of requests) {
    assert.deepEqual([request.cwd, request.env, request.path], [bundle.path, env, command.path]);
  }
  // Its whole output is the answer.
  assert.deepEqual([started?.stderr, deleted?.stderr], ["with-stdout", "apart"]);
});

test("a daemon that logs more asks its shims to", async (t) => {
  for (const level of ["debug", "trace"] as const) {
    const { command, requests } = await bench(t, level);
    await command.start(Context.background(), bundle, undefined);
    assert.deepEqual(requests.at(-1)?.args.slice(-2), ["-debug", "start"]);
  }
});
