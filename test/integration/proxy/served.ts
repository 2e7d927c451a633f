import { join } from "node:path";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import type { Service } from "#pkg/rpc/service.ts";
import type { Room } from "#test/support/room.ts";

/** A process of its own to the daemon: a service on a socket, and what was called there. */
export interface Served {
  readonly address: string;
  /** Names of methods, as called. */
  readonly calls: readonly string[];
  /** Stops answering; the socket is gone. */
  stop(): Promise<void>;
}

export async function serveAt(room: Room, name: string, service: Service): Promise<Served> {
  const address = join(room.dir, `${name}.sock`);
  const calls: string[] = [];
  const server = room.resources.use(new GrpcServer({ services: [recorded(service, calls)] }));
  await server.listen(address, { mode: 0o600 });
  return { address, calls, stop: () => server.close() };
}

function recorded(service: Service, calls: string[]): Service {
  const handlers = Object.entries(service.handlers).map(([name, handler]) => {
    const recording: typeof handler = (ctx, input) => {
      calls.push(name);
      return handler(ctx, input);
    };
    return [name, recording];
  });
  // -- the same names with the same types
  return { ...service, handlers: Object.fromEntries(handlers) as Service["handlers"] };
}
