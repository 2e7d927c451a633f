// Serves the echo service on file descriptor 3, until standard input ends.
import { serve } from "#pkg/rpc/service.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { Echo } from "#pkg/rpc/suite-echo.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";

const server = process.argv[2] === "grpc" ? new GrpcServer() : new TtrpcServer();
server.add(serve(Echo, { unary: async () => ({ count: process.pid }) }));
await server.listenFd(3);
console.log("ready");
for await (const _ of process.stdin) continue;
await server.close();
