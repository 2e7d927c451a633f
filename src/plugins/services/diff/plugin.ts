import * as v from "valibot";
import { notFound } from "#pkg/errors.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, byId } from "#pkg/plugin/requirement.ts";
import { diffServiceOf } from "#plugins/services/diff/service.ts";
import { DiffPlugin, GrpcPlugin, ServicePlugin } from "#plugins/types.ts";

export const diffService = definePlugin({
  type: ServicePlugin,
  id: "diff-service",
  requires: { differs: all(DiffPlugin) },
  config: pluginConfig(v.object({ default: v.array(v.string()), sync_fs: v.boolean() }), {
    default: ["walking"],
    sync_fs: false,
  }),
  async init({ needs, config }) {
    const differs = config.default.map((id) => {
      const differ = needs.differs.get(id);
      if (!differ) throw notFound(`needed differ not loaded: ${id}`);
      return differ;
    });
    return diffServiceOf({ differs, syncFs: config.sync_fs });
  },
});

export const diffGrpc = definePlugin({
  type: GrpcPlugin,
  id: "diff",
  requires: { diff: byId(ServicePlugin, "diff-service") },
  async init({ needs }) {
    return needs.diff;
  },
});
