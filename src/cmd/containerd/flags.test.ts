import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, defaultConfig } from "#cmd/containerd/config/config.ts";
import { addressesOf, applyFlags, type Flags } from "#cmd/containerd/flags.ts";

const grpc = "io.containerd.server.v1.grpc";
const ttrpc = "io.containerd.server.v1.ttrpc";

function apply(flags: Partial<Flags>, plugins: Config["plugins"] = {}): Config {
  const given = { config: "", configGiven: false, ...flags };
  return applyFlags({ ...defaultConfig(), plugins }, given);
}

test("flags win over files, and paths become absolute", () => {
  const config = apply({ root: "r", state: "/s/../t", logLevel: "debug" });
  assert.deepEqual(
    [config.root, config.state, config.debug.level],
    [`${process.cwd()}/r`, "/t", "debug"],
  );
  assert.equal(apply({ root: "" }).root, "/var/lib/containerd");
});

test("an address takes ttrpc's along with its owner, unless a file gave that", () => {
  assert.deepEqual(apply({ address: "/a" }).plugins, {
    [grpc]: { address: "/a" },
    [ttrpc]: { address: "/a.ttrpc" },
  });
  assert.deepEqual(
    apply({ address: "/a" }, { [grpc]: { address: "/b", uid: 3, gid: 4 } }).plugins,
    {
      [grpc]: { address: "/a", uid: 3, gid: 4 },
      [ttrpc]: { address: "/a.ttrpc", uid: 3, gid: 4 },
    },
  );
  const own = { address: "/own" };
  assert.deepEqual(apply({ address: "/a" }, { [ttrpc]: own }).plugins[ttrpc], own);
});

test("addressesOf() is where the sockets will be", () => {
  assert.deepEqual(addressesOf(apply({})), {
    grpc: "/run/containerd/containerd.sock",
    ttrpc: "/run/containerd/containerd.sock.ttrpc",
  });
  assert.deepEqual(addressesOf(apply({ address: "/a" })), { grpc: "/a", ttrpc: "/a.ttrpc" });
});
