import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { defaultSpec } from "./default-spec.ts";
import { imageLabels, parseImageRunConfig, withImageConfig } from "./image-config.ts";
import { applyOptions, withEnv } from "./spec-options.ts";

const spec = defaultSpec({ namespace: "n", id: "c" });

function config(given: object) {
  return parseImageRunConfig(Buffer.from(JSON.stringify({ config: given })));
}

suite("image config", () => {
  test("withImageConfig() sets environment, command and directory", () => {
    const image = config({ Env: ["A=1", "B=2"], Entrypoint: ["/e"], Cmd: ["c"], WorkingDir: "/w" });
    const made = applyOptions(spec, withEnv(["B=3", "C=4"]), withImageConfig(image, { args: [] }));
    assert.deepEqual(made.process?.env, ["A=1", "B=3", "C=4"]);
    assert.deepEqual(made.process?.args, ["/e", "c"]);
    assert.equal(made.process?.cwd, "/w");
    const other = withImageConfig(image, { args: ["x", "y"] })(spec);
    assert.deepEqual(other.process?.args, ["/e", "x", "y"]);
  });

  test("an image that says nothing gets PATH and the root directory", () => {
    for (const text of ["{}", '{"config":null}', '{"config":{"Env":null,"Cmd":null}}']) {
      const made = withImageConfig(parseImageRunConfig(Buffer.from(text)), { args: ["sh"] })(spec);
      assert.match(made.process?.env?.[0] ?? "", /^PATH=\/usr\/local\/sbin:/);
      assert.equal(made.process?.cwd, "/");
    }
  });

  test("parseImageRunConfig() names the field that is wrong", () => {
    for (const given of [{ Env: "A=1" }, { Cmd: [1] }, { Labels: { a: 1 } }, { User: 0 }]) {
      assert.throws(
        () => config(given),
        (error: Error) =>
          hasCode(error, "invalid-argument") &&
          error.message.includes(`config.${Object.keys(given)[0]}`),
      );
    }
    assert.throws(() => parseImageRunConfig(Buffer.from("{")), /image config/);
  });

  test("CVE-2026-53488: no label of an image is one that containerd acts on", () => {
    const labels = {
      "containerd.io/restart.status": "running",
      "containerd.io/restart.loguri": "binary:///bin/sh?-c=evil",
      "containerd.io/gc.root": "x",
      "io.cri-containerd.kind": "container",
      "org.opencontainers.image.title": "t",
      maintainer: "m",
    };
    assert.deepEqual(imageLabels(config({ Labels: labels })), {
      "org.opencontainers.image.title": "t",
      maintainer: "m",
    });
  });

  test("what else an image says is read", () => {
    const image = config({
      User: "web:web",
      StopSignal: "SIGQUIT",
      Volumes: { "/data": {} },
      ExposedPorts: { "80/tcp": {} },
    });
    assert.deepEqual(
      [image.user, image.stopSignal, image.volumes, image.exposedPorts],
      ["web:web", "SIGQUIT", ["/data"], ["80/tcp"]],
    );
  });
});
