import { chmod, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { type CriImagesConfig, type CriRuntimeConfig, defaultSandboxImage } from "#cri/config.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { formerCriUri, migrateImagesSection, migrateRuntimeSection } from "#plugins/cri/migrate.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import { CriServicePlugin } from "#plugins/types.ts";

// Keys that upstream has and nothing here acts on are left out, so that they are told of as ignored.

export const criImages = definePlugin({
  type: CriServicePlugin,
  id: "images",
  requires: {},
  config: pluginConfig(
    v.object({
      snapshotter: v.string(),
      pinned_images: v.record(v.string(), v.string()),
      /** Read by whoever asks a registry. */
      registry: v.optional(v.unknown()),
    }),
    { snapshotter: "overlayfs", pinned_images: { sandbox: defaultSandboxImage } },
    migrateImagesSection,
  ),
  async init({ config }): Promise<CriImagesConfig> {
    const { snapshotter, pinned_images: pinned } = config;
    return { kind: "images", snapshotter, pinnedImages: new Map(Object.entries(pinned)) };
  },
});

const runtimeSchema = v.object({
  runtime_type: v.optional(v.string(), ""),
  runtime_path: v.optional(v.string(), ""),
  pod_annotations: v.optional(v.array(v.string()), []),
  snapshotter: v.optional(v.string(), ""),
  sandboxer: v.optional(v.string(), ""),
  disable_pause_image_pull: v.optional(v.boolean(), false),
});

const podSandbox = "podsandbox";

export const criRuntime = definePlugin({
  type: CriServicePlugin,
  id: "runtime",
  requires: {},
  config: pluginConfig(
    v.object({
      restrict_oom_score_adj: v.boolean(),
      unset_seccomp_profile: v.string(),
      enable_unprivileged_ports: v.boolean(),
      enable_unprivileged_icmp: v.boolean(),
      containerd: v.object({
        default_runtime_name: v.string(),
        runtimes: v.record(v.string(), runtimeSchema),
      }),
    }),
    {
      restrict_oom_score_adj: false,
      unset_seccomp_profile: "",
      enable_unprivileged_ports: true,
      enable_unprivileged_icmp: true,
      containerd: {
        default_runtime_name: "runc",
        runtimes: { runc: { runtime_type: "io.containerd.runc.v2", sandboxer: podSandbox } },
      },
    },
    migrateRuntimeSection,
  ),
  async init({ config, rootDir, stateDir, platforms, exports }): Promise<CriRuntimeConfig> {
    platforms.push(hostPlatform());
    exports.set("CRIVersion", "v1");
    const { default_runtime_name: defaultRuntimeName, runtimes } = config.containerd;
    if (defaultRuntimeName === "") throw invalidArgument("`default_runtime_name` is empty");
    if (!Object.hasOwn(runtimes, defaultRuntimeName)) {
      throw invalidArgument(
        "no corresponding runtime configured in `containerd.runtimes` for " +
          `\`containerd\` \`default_runtime_name = ${quote(defaultRuntimeName)}\``,
      );
    }
    // Where it has always been.
    const roots = {
      root: join(dirname(rootDir), formerCriUri),
      state: join(dirname(stateDir), formerCriUri),
    };
    await mkdir(roots.state, { recursive: true, mode: 0o700 });
    // Older releases made it readable.
    await chmod(roots.state, 0o700);
    return {
      kind: "runtime",
      defaultRuntimeName,
      runtimes: new Map(
        Object.entries(runtimes).map(([name, runtime]) => [
          name,
          {
            type: runtime.runtime_type,
            path: runtime.runtime_path,
            podAnnotations: runtime.pod_annotations,
            snapshotter: runtime.snapshotter,
            sandboxer: runtime.sandboxer || podSandbox,
            disablePauseImagePull: runtime.disable_pause_image_pull,
          },
        ]),
      ),
      restrictOomScoreAdj: config.restrict_oom_score_adj,
      unsetSeccompProfile: config.unset_seccomp_profile,
      enableUnprivilegedPorts: config.enable_unprivileged_ports,
      enableUnprivilegedIcmp: config.enable_unprivileged_icmp,
      roots,
    };
  },
});
