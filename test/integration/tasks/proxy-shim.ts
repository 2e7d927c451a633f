// A real shim behind a proxy that fails its first `Shutdown`, for tests: REAL_SHIM names the binary.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { BootstrapResultSchema } from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Task as TaskV2 } from "#api/runtime/task/v2/shim_pb.ts";
import { Task as TaskV3 } from "#api/runtime/task/v3/shim_pb.ts";
import { parseStartOutput } from "#core/runtime/bootstrap-convert.ts";
import { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { serve } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";

/** Starts the real one as the daemon would, and the proxy in front of it. */
async function start(): Promise<void> {
  const real = spawnSync(process.env["REAL_SHIM"] ?? "", process.argv.slice(2), {
    input: readFileSync(0),
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (real.status !== 0) throw new Error(`the real shim failed: ${real.stdout.toString()}`);
  const { address, version } = parseStartOutput(real.stdout);
  const socket = join(process.cwd(), "proxy.sock");
  const args = [import.meta.filename, address.replace("unix://", ""), socket, "serve"];
  spawn(process.execPath, args, { detached: true, stdio: "ignore" }).unref();
  while (!existsSync(socket)) await delay(10);
  const result = { version, address: `unix://${socket}`, protocol: "ttrpc" };
  writeSync(1, toBinary(BootstrapResultSchema, create(BootstrapResultSchema, result)));
}

async function serveBetween(realSocket: string, socket: string): Promise<void> {
  const transport = await TtrpcTransport.connect(Context.background(), realSocket);
  void transport.closed.then(() => process.exit(0));
  const [v3, v2] = [createClient(TaskV3, transport), createClient(TaskV2, transport)];
  let shutdowns = 0;
  const failFirst = async <T>(shutdown: () => Promise<T>): Promise<T> => {
    shutdowns += 1;
    if (shutdowns === 1) throw new CodedError("unknown", "please retry");
    return shutdown();
  };
  const services = [
    serve(TaskV3, { ...v3, shutdown: (ctx, it) => failFirst(() => v3.shutdown(ctx, it)) }),
    serve(TaskV2, { ...v2, shutdown: (ctx, it) => failFirst(() => v2.shutdown(ctx, it)) }),
  ];
  await new TtrpcServer({ services }).listen(socket, { mode: 0o600 });
}

const [realSocket = "", socket = "", action] = process.argv.slice(-3);
if (action === "serve") await serveBetween(realSocket, socket);
else await start();
