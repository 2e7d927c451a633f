import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Service, Transport } from "#pkg/rpc/service.ts";

/** A connection to the services, which both end with the test. */
export async function serveOver(t: TestContext, services: readonly Service[]): Promise<Transport> {
  const dir = await mkdtemp(join(tmpdir(), "sandbox-grpc-"));
  const server = new GrpcServer({ services });
  await server.listen(join(dir, "s"), { mode: 0o660 });
  const transport = new GrpcTransport({ path: join(dir, "s") });
  t.after(async () => {
    await transport.close();
    await server[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });
  return transport;
}
