import { definePlugin } from "#pkg/plugin/plugin.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { ContentPlugin } from "#plugins/types.ts";

export const localContent = definePlugin({
  type: ContentPlugin,
  id: "content",
  requires: {},
  async init({ rootDir, exports, failpoints }) {
    exports.set("root", rootDir);
    return LocalContentStore.open(rootDir, { failpoints });
  },
});
