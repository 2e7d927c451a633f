import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { mountOf } from "#core/mount/convert.ts";
import type { Mount } from "#core/mount/mount.ts";
import { infoOf } from "#core/snapshots/convert.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

/** A snapshotter behind the gRPC service of another process. Does not own the connection. */
export class GrpcSnapshotter implements Snapshotter {
  readonly #client: Client<typeof Snapshots>;
  readonly #name: string;

  constructor(transport: Transport, name: string) {
    this.#client = createClient(Snapshots, transport);
    this.#name = name;
  }

  async stat(ctx: Context, name: string): Promise<SnapshotInfo> {
    return given((await this.#client.stat(ctx, { snapshotter: this.#name, key: name })).info);
  }

  async update(
    ctx: Context,
    info: { readonly name: string; readonly labels: Labels },
    fields: readonly string[] = [],
  ): Promise<SnapshotInfo> {
    const response = await this.#client.update(ctx, {
      snapshotter: this.#name,
      info: { name: info.name, labels: { ...info.labels } },
      updateMask: { paths: [...fields] },
    });
    return given(response.info);
  }

  async usage(ctx: Context, name: string): Promise<SnapshotUsage> {
    const { size, inodes } = await this.#client.usage(ctx, {
      snapshotter: this.#name,
      key: name,
    });
    return { sizeBytes: Number(size), inodes: Number(inodes) };
  }

  async mounts(ctx: Context, key: string): Promise<readonly Mount[]> {
    const { mounts } = await this.#client.mounts(ctx, { snapshotter: this.#name, key });
    return mounts.map(mountOf);
  }

  async prepare(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    const labels = { ...options.labels };
    const request = { snapshotter: this.#name, key, parent, labels };
    return (await this.#client.prepare(ctx, request)).mounts.map(mountOf);
  }

  async view(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    const labels = { ...options.labels };
    const request = { snapshotter: this.#name, key, parent, labels };
    return (await this.#client.view(ctx, request)).mounts.map(mountOf);
  }

  async commit(
    ctx: Context,
    name: string,
    key: string,
    options: SnapshotOptions = {},
  ): Promise<void> {
    await this.#client.commit(ctx, {
      snapshotter: this.#name,
      name,
      key,
      labels: { ...options.labels },
      parent: options.parent ?? "",
    });
  }

  async remove(ctx: Context, key: string): Promise<void> {
    await this.#client.remove(ctx, { snapshotter: this.#name, key });
  }

  async *list(ctx: Context, filters: readonly string[] = []): AsyncIterable<SnapshotInfo> {
    const request = { snapshotter: this.#name, filters: [...filters] };
    for await (const { info } of this.#client.list(ctx, request)) {
      for (const message of info) yield infoOf(message);
    }
  }

  async cleanup(ctx: Context): Promise<void> {
    await this.#client.cleanup(ctx, { snapshotter: this.#name });
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

function given(info: Parameters<typeof infoOf>[0] | undefined): SnapshotInfo {
  if (info) return infoOf(info);
  throw new CodedError("internal", "the snapshot service answered without an info");
}
