import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { commandPath } from "#test/support/needs.ts";
import { runOk } from "#test/support/command.ts";

const project = resolve(import.meta.dirname, "../../..");

/** Builds the program that calls as Go's containerd clients do, and gives its path. */
export async function buildGoClient(): Promise<string> {
  const cache = join(project, ".cache/conformance");
  await mkdir(cache, { recursive: true });
  const out = join(cache, "grpc-go");
  const go = commandPath("go") ?? "go";
  await runOk([go, "build", "-o", out, "."], {
    cwd: join(project, "test/conformance/grpc-go"),
    env: { ...definedEnv(), GOFLAGS: "-mod=readonly -buildvcs=false", CGO_ENABLED: "0" },
    timeoutMs: 300_000,
  });
  return out;
}

function definedEnv(): Record<string, string> {
  const entries = Object.entries(process.env).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value] as const],
  );
  return Object.fromEntries(entries);
}
