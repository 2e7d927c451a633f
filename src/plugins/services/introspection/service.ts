import { Introspection as IntrospectionService } from "#api/services/introspection/v1/introspection_pb.ts";
import type { Introspection } from "#core/introspection/introspection.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { pluginMessage, serverMessage } from "#plugins/services/introspection/convert.ts";

/** containerd.services.introspection.v1.Introspection */
export function introspectionService(introspection: Introspection): Service {
  return serve(IntrospectionService, {
    async plugins(_ctx, { filters }) {
      return { plugins: introspection.plugins(filters).map(pluginMessage) };
    },
    async server() {
      return serverMessage(await introspection.server());
    },
    async pluginInfo(ctx, { type, id, options }) {
      const { plugin, extra } = await introspection.pluginInfo(ctx, { type, id }, options);
      return { plugin: pluginMessage(plugin), ...(extra && { extra: { ...extra } }) };
    },
  });
}
