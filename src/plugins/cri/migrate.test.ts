import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { migrateImagesSection, migrateRuntimeSection } from "./migrate.ts";

suite("the CRI section of version 2", () => {
  test("moves to two, where nothing that is there is lost", () => {
    const sections: Record<string, unknown> = {
      "io.containerd.grpc.v1.cri": {
        sandbox_image: "old/pause:1",
        restrict_oom_score_adj: true,
        stream_server_port: "0",
        registry: { config_path: "/certs" },
        containerd: {
          snapshotter: "native",
          default_runtime_name: "kata",
          runtimes: { kata: { runtime_type: "io.containerd.kata.v2" } },
        },
      },
      "io.containerd.cri.v1.runtime": { unset_seccomp_profile: "unconfined" },
    };
    migrateImagesSection(2, sections);
    migrateRuntimeSection(2, sections);
    assert.deepEqual(sections["io.containerd.cri.v1.images"], {
      snapshotter: "native",
      registry: { config_path: "/certs" },
      pinned_images: { sandbox: "old/pause:1" },
    });
    const runtime = {
      restrict_oom_score_adj: true,
      unset_seccomp_profile: "unconfined",
      containerd: {
        default_runtime_name: "kata",
        runtimes: { kata: { runtime_type: "io.containerd.kata.v2" } },
      },
    };
    assert.deepEqual(sections["io.containerd.cri.v1.runtime"], runtime);
    // At the next step too, which finds them as they are.
    migrateRuntimeSection(3, sections);
    assert.deepEqual(sections["io.containerd.cri.v1.runtime"], runtime);
  });

  test("a section that is not there makes none", () => {
    const sections = {};
    migrateImagesSection(2, sections);
    migrateRuntimeSection(2, sections);
    assert.deepEqual(sections, {});
  });
});
