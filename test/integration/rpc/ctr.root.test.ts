import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Introspection } from "#api/services/introspection/v1/introspection_pb.ts";
import { Version } from "#api/services/version/v1/version_pb.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { serve } from "#pkg/rpc/service.ts";
import { runOk } from "#test/support/command.ts";
import { debianProgram } from "#test/support/debian.ts";

test("Debian's ctr 1.6 reads a version from the server", async () => {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await mkdtempDisposable(join(tmpdir(), "ctr-")));
  const path = join(dir.path, "s");
  const services = [
    serve(Version, { version: async () => ({ version: "v2.4.2-test", revision: "abc" }) }),
    serve(Introspection, { server: async () => ({ uuid: "1-2-3" }) }),
  ];
  const server = stack.use(new GrpcServer({ services }));
  await server.listen(path, { mode: 0o600 });
  const text = await runOk([debianProgram("ctr"), "--address", path, "version"]);
  assert.match(
    text,
    /Server:\n {2}Version: {2}v2\.4\.2-test\n {2}Revision: abc\n {2}UUID: 1-2-3\n/,
  );
});
