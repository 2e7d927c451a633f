import { Version } from "#api/services/version/v1/version_pb.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";

/** containerd.services.version.v1.Version */
export function versionService(build: { version: string; revision: string }): Service {
  const { version, revision } = build;
  return serve(Version, {
    async version() {
      return { version, revision };
    },
  });
}
