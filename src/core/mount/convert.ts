import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Mount as MountMessage, MountSchema } from "#api/types/mount_pb.ts";
import type { Mount } from "#core/mount/mount.ts";

export function mountOf({ type, source, target, options }: MountMessage): Mount {
  return { type, source, target, options };
}

export function mountMessage(mount: Mount): MessageInitShape<typeof MountSchema> {
  const { type, source, target, options } = mount;
  return { type, source, target, options: [...options] };
}
