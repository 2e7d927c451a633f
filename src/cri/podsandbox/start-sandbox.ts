import type { SandboxInstance } from "#core/sandbox/sandbox.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { withLease } from "#core/transfer/local.ts";
import { labels, sandboxKind } from "#cri/annotations.ts";
import { type CriRuntime, sandboxImageName, sandboxRuntime } from "#cri/config.ts";
import { hasHostNetwork } from "#cri/pod-sandbox-config.ts";
import { endTask } from "#cri/podsandbox/end-task.ts";
import type { PodSandboxParts } from "#cri/podsandbox/parts.ts";
import type { PodSandbox } from "#cri/podsandbox/pod-sandbox.ts";
import { sandboxOomScoreAdj, sandboxSpec } from "#cri/podsandbox/sandbox-spec.ts";
import { podMappings, remapLabels } from "#cri/podsandbox/user-namespace.ts";
import { ensureSandboxImage, type UnpackedImage, unpackedImage } from "#cri/sandbox-image.ts";
import { metadataAny } from "#cri/sandbox-metadata-convert.ts";
import { parseProfilePath, seccompOf } from "#cri/security-profile.ts";
import { userString } from "#cri/user-string.ts";
import type { Container } from "#core/containers/containers.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Task } from "#core/runtime/runtime.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound, notFound, notImplemented, wrap } from "#pkg/errors.ts";
import { assertLabel, type Labels } from "#pkg/label.ts";
import { formatLossless } from "#pkg/lossless-json.ts";
import { quote } from "#pkg/log-format.ts";
import { imageLabels } from "#pkg/oci/image-config.ts";
import { type OciSpec, specTypeUrl } from "#pkg/oci/runtime-spec.ts";
import { applyOptions, withSeccomp } from "#pkg/oci/spec-options.ts";
import { resolveUser, withUser } from "#pkg/oci/user.ts";
import { DirectoryRoot } from "#pkg/oci/user-files.ts";

export interface StartedSandbox {
  readonly instance: SandboxInstance;
  readonly task: Task;
}

const noIo = { stdin: "", stdout: "", stderr: "", terminal: false };

/**
 * Makes the container that holds a pod's namespaces, and starts it.
 *
 * What a start that fails has made is undone. What cannot be is told of. A task that cannot stays the
 * sandbox's with all that it stands on: a shutdown ends it.
 */
export async function startSandbox(
  ctx: Context,
  parts: PodSandboxParts,
  sandbox: PodSandbox,
): Promise<StartedSandbox> {
  // Until the container's record refers to them, only a lease keeps its snapshot and image.
  const run = async (leased: Context): Promise<StartedSandbox> =>
    new Start(leased, parts, sandbox).run();
  return withLease(ctx, parts.leases, run, { labels: { [labels.sandboxStart]: sandbox.id } });
}

class Start {
  readonly #ctx: Context;
  readonly #parts: PodSandboxParts;
  readonly #sandbox: PodSandbox;
  readonly #runtime: CriRuntime;
  readonly #snapshotter: string;
  /** Whether a task has been made that cannot be ended. */
  #isStuck = false;

  constructor(ctx: Context, parts: PodSandboxParts, sandbox: PodSandbox) {
    this.#ctx = ctx;
    this.#parts = parts;
    this.#sandbox = sandbox;
    const { config, runtimeHandler } = sandbox.metadata;
    try {
      this.#runtime = sandboxRuntime(parts.runtimeConfig, config, runtimeHandler);
    } catch (error) {
      throw wrap("failed to get sandbox runtime", error);
    }
    this.#snapshotter = this.#runtime.snapshotter || parts.imagesConfig.snapshotter;
  }

  async run(): Promise<StartedSandbox> {
    const { files, runtime: tasks, failpoints } = this.#parts;
    const { id, metadata } = this.#sandbox;
    const netnsPath = hasHostNetwork(metadata.config) ? "" : metadata.netnsPath;
    await files.assertNetns(netnsPath);
    const image = await this.#image();
    await using undo = new AsyncDisposableStack();
    const undoLater = (what: string, work: (ctx: Context) => Promise<void>): void => {
      undo.defer(() => this.#undo(what, work));
    };
    undoLater("files", () => files.remove(id));
    await files.makeDirectories(id);
    const mappings = podMappings(metadata.config.security.user);
    if (mappings && netnsPath !== "") await files.keepUserNamespace(id, netnsPath);
    const mounts = await this.#prepareSnapshot(image);
    undoLater("snapshot", (ctx) => removeIfThere(this.#snapshots().remove(ctx, id)));
    failpoints.hit("pod.snapshot-made");
    const spec = await this.#spec(image, mounts);
    const containerLabels = this.#labels(image);
    const container = await this.#record(image, spec, containerLabels);
    undoLater("container", async (ctx) => {
      await removeIfThere(this.#parts.containers.delete(ctx, id));
      this.#sandbox.hasContainer = false;
    });
    failpoints.hit("pod.recorded");
    await files.make(id, metadata.config);
    const task = await this.#createTask(container, mounts);
    undoLater("task", async (ctx) => {
      this.#isStuck = true;
      await endTask(ctx, tasks, id);
      this.#isStuck = false;
    });
    failpoints.hit("pod.created");
    const pid = await this.#startTask(task);
    failpoints.hit("pod.started");
    undo.move();
    this.#sandbox.ready(pid, container.createdAt);
    const instance = {
      sandboxId: id,
      pid,
      createdAt: container.createdAt,
      labels: {
        oci_runtime_type: this.#runtime.type,
        selinux_label: metadata.processLabel,
        ...containerLabels,
      },
      address: "",
      version: 0,
      spec: container.spec,
    };
    return { instance, task };
  }

  async #undo(what: string, work: (ctx: Context) => Promise<void>): Promise<void> {
    if (this.#isStuck) return;
    const ctx = this.#ctx.detached({ timeoutMs: this.#parts.cleanupTimeoutMs });
    try {
      await work(ctx);
    } catch (error) {
      ctx.logger.error(`failed to undo a sandbox's start: ${what}`, {
        id: this.#sandbox.id,
        error,
      });
    }
  }

  async #image(): Promise<UnpackedImage> {
    const { imagesConfig, images } = this.#parts;
    const image = await ensureSandboxImage(this.#ctx, images, {
      name: sandboxImageName(imagesConfig),
      pull: !this.#runtime.disablePauseImagePull,
    });
    return unpackedImage(this.#ctx, images, image, this.#snapshotter);
  }

  #snapshots(): Snapshotter {
    const found = this.#parts.snapshotters.get(this.#snapshotter);
    if (!found) throw notFound(`snapshotter ${quote(this.#snapshotter)}`);
    return found;
  }

  async #prepareSnapshot({ chainId }: UnpackedImage): Promise<readonly Mount[]> {
    const { id, metadata } = this.#sandbox;
    const { annotations, security } = metadata.config;
    const mappings = podMappings(security.user);
    const target = this.#parts.images.unpackTarget(this.#snapshotter);
    if (mappings && !target?.capabilities.has("remap-ids")) {
      throw notImplemented(`snapshotter ${quote(this.#snapshotter)}: remapping of owners`);
    }
    const inherited = Object.entries(annotations).filter(([key]) =>
      key.startsWith("containerd.io/snapshot/"),
    );
    return this.#snapshots().prepare(this.#ctx, id, chainId, {
      labels: { ...Object.fromEntries(inherited), ...(mappings && remapLabels(mappings)) },
    });
  }

  async #spec(image: UnpackedImage, mounts: readonly Mount[]): Promise<OciSpec> {
    const { runtimeConfig, imagesConfig, host, files } = this.#parts;
    const { id, namespace, metadata } = this.#sandbox;
    const { config, netnsPath } = metadata;
    const restrictTo = runtimeConfig.restrictOomScoreAdj ? await host.oomScoreAdj() : undefined;
    const spec = sandboxSpec({
      id,
      namespace,
      config,
      image: image.config,
      imageName: sandboxImageName(imagesConfig),
      netnsPath,
      paths: files.pathsOf(id),
      mappings: podMappings(config.security.user),
      podAnnotations: this.#runtime.podAnnotations,
      maskedPaths: await host.maskedPaths(),
      oomScoreAdj: sandboxOomScoreAdj({ restrictTo }),
      unprivilegedPorts: runtimeConfig.enableUnprivilegedPorts,
      unprivilegedIcmp: runtimeConfig.enableUnprivilegedIcmp && !(await host.isInUserNamespace()),
    });
    const { security } = config;
    const profile =
      security.seccomp ??
      parseProfilePath(security.seccompProfilePath || runtimeConfig.unsetSeccompProfile);
    const seccomp = await seccompOf(profile, {
      isPrivileged: security.privileged,
      isSupported: await host.hasSeccomp(),
      capabilities: spec.process?.capabilities?.bounding ?? [],
    });
    const asked = { username: "", uid: security.runAsUser, gid: security.runAsGroup };
    const user = userString(asked) || image.config.user;
    const withOwnUser = user === "" ? [] : [withUser(await resolveUser(this.#root(mounts), user))];
    return applyOptions(spec, ...(seccomp ? [withSeccomp(seccomp)] : []), ...withOwnUser);
  }

  /** Mounted only to look up a name: numbers need nothing of it. */
  #root(mounts: readonly Mount[]): Pick<DirectoryRoot, "read"> {
    const { mounter, sys } = this.#parts;
    return {
      read: (path) =>
        mounter.withReadOnlyTempMount(this.#ctx, mounts, (root) =>
          new DirectoryRoot(sys, root).read(path),
        ),
    };
  }

  /** The pod's labels over those of the image; of the image's, those that fit. */
  #labels({ config: image }: UnpackedImage): Labels {
    const fitting = Object.entries(imageLabels(image)).filter(([key, value]) => {
      try {
        assertLabel(key, value);
        return true;
      } catch (error) {
        this.#ctx.logger.warn("unable to add an image's label to a container", { key, error });
        return false;
      }
    });
    const { config } = this.#sandbox.metadata;
    return { ...Object.fromEntries(fitting), ...config.labels, [labels.kind]: sandboxKind };
  }

  async #record(image: UnpackedImage, spec: OciSpec, containerLabels: Labels): Promise<Container> {
    const { id, metadata, runtimeOptions } = this.#sandbox;
    try {
      const container = await this.#parts.containers.create(this.#ctx, {
        id,
        labels: containerLabels,
        image: image.name,
        runtime: { name: this.#runtime.type, options: runtimeOptions },
        spec: { typeUrl: specTypeUrl, value: Buffer.from(formatLossless(spec)) },
        snapshotter: this.#snapshotter,
        snapshotKey: id,
        extensions: { [labels.sandboxMetadata]: metadataAny(metadata) },
        sandbox: "",
      });
      this.#sandbox.hasContainer = true;
      return container;
    } catch (error) {
      throw wrap("failed to create containerd container", error);
    }
  }

  async #createTask(container: Container, mounts: readonly Mount[]): Promise<Task> {
    const { id, spec, runtime } = container;
    try {
      return await this.#parts.runtime.create(this.#ctx, id, {
        spec,
        rootfs: mounts,
        io: noIo,
        runtime: this.#runtime.path || runtime.name,
        runtimeOptions: runtime.options,
        taskOptions: undefined,
        sandbox: undefined,
      });
    } catch (error) {
      throw wrap("failed to create containerd task", error);
    }
  }

  async #startTask(task: Task): Promise<number> {
    try {
      return await task.start(this.#ctx, "");
    } catch (error) {
      throw wrap(`failed to start sandbox container task ${quote(task.id)}`, error);
    }
  }
}

async function removeIfThere(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
