import { Deprecations } from "#core/introspection/deprecations.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { WarningPlugin } from "#plugins/types.ts";

export const deprecations = definePlugin({
  type: WarningPlugin,
  id: "deprecations",
  requires: {},
  async init() {
    return new Deprecations();
  },
});
