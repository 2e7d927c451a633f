import type { MessageInitShape } from "@bufbuild/protobuf";
import { type InfoSchema, Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import { infoMessage } from "#core/snapshots/convert.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";

const listBatch = 100;

/** containerd.services.snapshots.v1.Snapshots */
export function snapshotsServiceOf(snapshotters: ReadonlyMap<string, Snapshotter>): Service {
  const named = (name: string): Snapshotter => {
    if (name === "") throw invalidArgument("snapshotter argument missing");
    const found = snapshotters.get(name);
    if (!found) throw invalidArgument(`snapshotter not loaded: ${name}`);
    return found;
  };
  return serve(Snapshots, {
    async prepare(ctx, { snapshotter, key, parent, labels }) {
      const mounts = await named(snapshotter).prepare(ctx, key, parent, { labels });
      return { mounts: mounts.map(mountMessage) };
    },
    async view(ctx, { snapshotter, key, parent, labels }) {
      const mounts = await named(snapshotter).view(ctx, key, parent, { labels });
      return { mounts: mounts.map(mountMessage) };
    },
    async mounts(ctx, { snapshotter, key }) {
      const mounts = await named(snapshotter).mounts(ctx, key);
      return { mounts: mounts.map(mountMessage) };
    },
    async commit(ctx, { snapshotter, name, key, labels, parent }) {
      await named(snapshotter).commit(ctx, name, key, { labels, parent });
      return {};
    },
    async remove(ctx, { snapshotter, key }) {
      await named(snapshotter).remove(ctx, key);
      return {};
    },
    async stat(ctx, { snapshotter, key }) {
      return { info: infoMessage(await named(snapshotter).stat(ctx, key)) };
    },
    async update(ctx, { snapshotter, info, updateMask }) {
      if (!info) throw invalidArgument("info is missing");
      const updated = await named(snapshotter).update(ctx, info, updateMask?.paths ?? []);
      return { info: infoMessage(updated) };
    },
    async *list(ctx, { snapshotter, filters }) {
      let batch: MessageInitShape<typeof InfoSchema>[] = [];
      for await (const info of named(snapshotter).list(ctx, filters)) {
        batch.push(infoMessage(info));
        if (batch.length < listBatch) continue;
        yield { info: batch };
        batch = [];
      }
      if (batch.length > 0) yield { info: batch };
    },
    async usage(ctx, { snapshotter, key }) {
      const { sizeBytes, inodes } = await named(snapshotter).usage(ctx, key);
      return { size: BigInt(sizeBytes), inodes: BigInt(inodes) };
    },
    async cleanup(ctx, { snapshotter }) {
      await named(snapshotter).cleanup(ctx);
      return {};
    },
  });
}
