import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Wire, type WireOptions, wireSuite } from "#pkg/rpc/suite.ts";
import { MESSAGE_BYTES_MAX } from "./message-reader.ts";
import { GrpcServer } from "./server.ts";
import { GrpcTransport } from "./transport.ts";

wireSuite(
  "grpc",
  { messageBytesMax: MESSAGE_BYTES_MAX, cancels: true, leases: true, flowControl: true },
  async ({ service, logger }: WireOptions): Promise<Wire> => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "grpc-")));
    const path = join(dir.path, "s");
    const server = stack.use(new GrpcServer({ services: [service], ...(logger && { logger }) }));
    await server.listen(path, { mode: 0o600 });
    const transport = stack.use(new GrpcTransport({ path }));
    const owned = stack.move();
    return {
      transport,
      close: (options) => server.close(options),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  },
);
