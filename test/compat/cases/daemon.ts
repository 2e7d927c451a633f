import type { CompatCase } from "../compat-case.ts";

/** What this project has so far of the plugins that Go containerd 1.6 lists as well. */
const plugins = [
  "content.v1 +content",
  "snapshotter.v1 +(native|overlayfs)",
  "metadata.v1 +bolt",
  "differ.v1 +walking",
  "gc.v1 +scheduler",
  "runtime.v2 +task",
  "grpc.v1 +(containers|content|diff|events|healthcheck|images|introspection|leases)",
  "grpc.v1 +(namespaces|snapshots|tasks|version)",
];

export const daemonCases: readonly CompatCase[] = [
  {
    name: "version-of-client-and-server",
    lines: ["ctr version 2>&1 | sed -n '/Server/,$p'"],
    differs: "The version is our own.",
  },
  {
    name: "plugins-have-their-names-platforms-and-states",
    needs: ["overlayfs"],
    lines: [
      "ctr plugins ls | head -n 1",
      `ctr plugins ls | grep -E 'containerd\\.(${plugins.join("|")}) ' | sort`,
      "ctr plugins ls -q type==io.containerd.content.v1",
      "ctr plugins ls id==none",
    ],
  },
  {
    name: "a-configuration-of-the-wrong-type",
    lines: [
      "echo 'root = 5' >bad.toml; containerd --config bad.toml config dump",
      "echo 'root = [' >bad.toml; containerd --config bad.toml config dump",
      "containerd --config none.toml config dump",
    ],
    differs: "Errors name file, line and column, and a missing file is one for every command.",
  },
];
