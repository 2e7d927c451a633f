import { InProcessExchange } from "#core/events/exchange.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { EventPlugin } from "#plugins/types.ts";

export const exchange = definePlugin({
  type: EventPlugin,
  id: "exchange",
  requires: {},
  async init({ ctx }) {
    const exchange = new InProcessExchange();
    // Before the servers close: they wait for their calls, and a subscription would never end by
    // itself.
    ctx.signal.addEventListener("abort", () => exchange.close(), { once: true });
    return exchange;
  },
});
