import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { socketAddress, socketPath } from "./socket-address.ts";

const group = { daemonAddress: "/run/containerd/containerd.sock", namespace: "k8s.io", id: "pod" };

test("a socket is named after daemon, namespace and group, as upstream's", () => {
  const text = "/run/containerd/containerd.sock/k8s.io/pod";
  const name = createHash("sha256").update(text).digest("hex");
  assert.equal(socketAddress("/run/containerd/s", group), `unix:///run/containerd/s/${name}`);
  const others = [
    { ...group, id: "other" },
    { ...group, namespace: "default" },
    { ...group, daemonAddress: "/d" },
  ];
  const addresses = others.map((other) => socketAddress("/run/containerd/s", other));
  assert.equal(new Set([...addresses, socketAddress("/run/containerd/s", group)]).size, 4);
});

test("a path has 106 characters at most", () => {
  const longest = `/${"d".repeat(40)}`;
  assert.equal(socketPath(socketAddress(longest, group)).length, 106);
  assert.throws(() => socketAddress(`${longest}d`, group), {
    code: "invalid-argument",
    message: /^"\/d+\/[0-9a-f]{64}": unix socket path too long \(> 106\)/,
  });
});

test("only the path of a unix socket is an address", () => {
  assert.equal(socketPath("unix:///a/b"), "/a/b");
  for (const address of ["", "/a", "unix://a", "vsock://1:2", "ttrpc+unix:///a"]) {
    assert.throws(() => socketPath(address), { code: "invalid-argument" }, address);
  }
});
