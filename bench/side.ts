import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Content } from "#api/services/content/v1/content_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { Version } from "#api/services/version/v1/version_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import type { Daemon, DaemonKind } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";

export const busybox = "docker.io/library/busybox:bench";

export interface SideOptions {
  readonly daemon: Daemon;
  readonly namespace: string;
  readonly runtime: string | undefined;
}

/** One of the two daemons under comparison, with clients of its services over one connection. */
export class Side implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly kind: DaemonKind;
  readonly ctx: Context;
  readonly containers: Client<typeof Containers>;
  readonly content: Client<typeof Content>;
  readonly images: Client<typeof Images>;
  readonly leases: Client<typeof Leases>;
  readonly snapshots: Client<typeof Snapshots>;
  readonly tasks: Client<typeof Tasks>;
  readonly version: Client<typeof Version>;
  readonly transport: GrpcTransport;
  readonly #runtime: string | undefined;

  constructor({ daemon, namespace, runtime }: SideOptions) {
    this.daemon = daemon;
    this.kind = daemon.kind;
    this.ctx = Context.background().withNamespace(namespace);
    const transport = new GrpcTransport({ path: daemon.address });
    this.transport = transport;
    this.containers = createClient(Containers, transport);
    this.content = createClient(Content, transport);
    this.images = createClient(Images, transport);
    this.leases = createClient(Leases, transport);
    this.snapshots = createClient(Snapshots, transport);
    this.tasks = createClient(Tasks, transport);
    this.version = createClient(Version, transport);
    this.#runtime = runtime;
  }

  /** Both sides share a namespace, so no name may be that of the other. */
  id(name: string): string {
    return `${this.kind}-${name}`;
  }

  /** The flags of `ctr run` and `ctr containers create` that choose the OCI runtime. */
  get runtimeFlags(): string[] {
    return this.#runtime === undefined ? [] : ["--runc-binary", this.#runtime];
  }

  async ctr(...args: readonly string[]): Promise<string> {
    return this.daemon.ctrOk(args, { timeoutMs: 600_000 });
  }

  /** Imports and unpacks the image that containers of benches run. */
  async importBusybox(namespace?: string): Promise<void> {
    const flags = namespace === undefined ? [] : ["--namespace", namespace];
    const stdin = ociArchive(busyboxImage(), busybox);
    await this.daemon.ctrOk([...flags, "images", "import", "-"], { stdin });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.transport.close();
  }
}
