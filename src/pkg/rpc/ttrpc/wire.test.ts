import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Context } from "#pkg/context.ts";
import { type Wire, type WireOptions, wireSuite } from "#pkg/rpc/suite.ts";
import { PAYLOAD_BYTES_MAX } from "./frame.ts";
import { TtrpcServer } from "./server.ts";
import { TtrpcTransport } from "./transport.ts";

wireSuite(
  "ttrpc",
  { messageBytesMax: PAYLOAD_BYTES_MAX, cancels: false, leases: false, flowControl: false },
  async ({ service, logger }: WireOptions): Promise<Wire> => {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ttrpc-")));
    const path = join(dir.path, "s");
    const server = stack.use(new TtrpcServer({ services: [service], ...(logger && { logger }) }));
    await server.listen(path, { mode: 0o600 });
    const transport = stack.use(await TtrpcTransport.connect(Context.background(), path));
    const owned = stack.move();
    return {
      transport,
      close: (options) => server.close(options),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  },
);
