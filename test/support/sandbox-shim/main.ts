// A third-party shim as a program: `-namespace NS -id ID [-bundle PATH] serve|delete`, or `-info`; see `install.ts`.
import { closeSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { BootstrapResultSchema } from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { DeleteResponseSchema } from "#api/runtime/task/v3/shim_pb.ts";
import { RuntimeInfoSchema } from "#api/types/introspection_pb.ts";
import { MountCapabilitiesSchema } from "#api/types/mount_pb.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { nanosToTimestamp, nowNanos } from "#pkg/time.ts";
import { SandboxShim } from "./services.ts";

const pidFile = "shim.pid";

interface Flags {
  readonly id: string;
  readonly bundle: string;
  readonly action: string;
}

function flagsOf(args: readonly string[]): Flags {
  const value = (name: string): string | undefined => {
    const at = args.indexOf(`-${name}`);
    return at < 0 ? undefined : args[at + 1];
  };
  return {
    id: value("id") ?? "",
    bundle: value("bundle") ?? process.cwd(),
    action: args.at(-1) ?? "",
  };
}

/** Mount types and transforms that it says it does itself: `types=a,b;transforms=c`. */
function claims(): { types: string[]; transforms: string[] } | undefined {
  const said = process.env["SANDBOX_SHIM_CLAIMS"];
  if (said === undefined) return undefined;
  const parts = new Map(said.split(";").map((part) => part.split("=", 2) as [string, string]));
  const list = (name: string): string[] => (parts.get(name) ?? "").split(",").filter(Boolean);
  return { types: list("types"), transforms: list("transforms") };
}

async function serve({ id, bundle }: Flags): Promise<void> {
  const socket = join(process.env["SANDBOX_SHIM_DIR"] ?? bundle, `${id}-${process.pid}.sock`);
  const shim = new SandboxShim();
  const server = new TtrpcServer({ services: shim.services() });
  await server.listen(socket, { mode: 0o600 });
  writeFileSync(join(bundle, pidFile), String(process.pid));
  const claimed = claims();
  const result = create(BootstrapResultSchema, {
    version: 3,
    address: `unix://${socket}`,
    protocol: "ttrpc",
    extensions: claimed
      ? [{ value: anyPack(MountCapabilitiesSchema, create(MountCapabilitiesSchema, claimed)) }]
      : [],
  });
  // What waits for the output of `start` reads to its end.
  writeSync(1, toBinary(BootstrapResultSchema, result));
  closeSync(1);
  process.on("SIGTERM", () => {});
  await shim.over;
  // Go's daemon takes an answer that its connection's end overtakes for a failure.
  await delay(50);
  await server.close({ timeoutMs: 1_000 });
}

/** Ends what is left of a bundle whose shim does not answer any more. */
function remove({ bundle }: Flags): void {
  try {
    process.kill(Number(readFileSync(join(bundle, pidFile), "utf8")), "SIGKILL");
  } catch {
    // -- it has no shim of its own, or that is gone already
  }
  rmSync(join(bundle, pidFile), { force: true });
  const exit = { pid: 77, exitStatus: 137, exitedAt: nanosToTimestamp(nowNanos()) };
  writeSync(1, toBinary(DeleteResponseSchema, create(DeleteResponseSchema, exit)));
}

function info(): void {
  const annotations: Record<string, string> = {};
  const allowed = process.env["SANDBOX_SHIM_ALLOW_MOUNTS"];
  if (allowed !== undefined) annotations["containerd.io/runtime-allow-mounts"] = allowed;
  const version = { version: "1.2.3", revision: "abc" };
  const said = process.env["SANDBOX_SHIM_FEATURES"];
  const typeUrl = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
  const message = create(RuntimeInfoSchema, {
    name: "sandbox test shim",
    version,
    annotations,
    ...(said !== undefined && { features: { typeUrl, value: Buffer.from(said) } }),
  });
  writeSync(1, toBinary(RuntimeInfoSchema, message));
}

const args = process.argv.slice(2);
const flags = flagsOf(args);
if (args.includes("-info")) info();
else if (flags.action === "serve") await serve(flags);
else if (flags.action === "delete") remove(flags);
else throw new Error(`no such action: ${flags.action}`);
