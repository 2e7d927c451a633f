import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { commandPath } from "#test/support/needs.ts";
import { runOk } from "#test/support/command.ts";

const project = resolve(import.meta.dirname, "../../..");

/**
 * Builds a program that calls as Go's containerd clients do, and gives its path. `grpc-go-old` has the library of the
 * clients that dialed plain paths.
 */
export async function buildGoClient(name: "grpc-go" | "grpc-go-old"): Promise<string> {
  const cache = join(project, ".cache/conformance");
  await mkdir(cache, { recursive: true });
  const out = join(cache, name);
  const go = commandPath("go") ?? "go";
  await runOk([go, "build", "-o", out, "."], {
    cwd: join(project, "test/conformance", name),
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
