import { labels } from "#cri/annotations.ts";
import type { ContentStore } from "#core/content/content.ts";
import { normalizeDockerReference } from "#core/images/docker-reference.ts";
import type { Image, ImageStore } from "#core/images/images.ts";
import { manifestFor, readConfig, readDocument } from "#core/images/manifest.ts";
import type { Transferrer } from "#core/transfer/transfer.ts";
import { chainIds } from "#core/unpack/chain-id.ts";
import type { Limiter, UnpackTarget } from "#core/unpack/unpack.ts";
import { unpackImage } from "#core/unpack/unpack-image.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound, notFound, wrap } from "#pkg/errors.ts";
import type { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { quote } from "#pkg/log-format.ts";
import { type ImageRunConfig, parseImageRunConfig } from "#pkg/oci/image-config.ts";
import { hostPlatform } from "#pkg/platform.ts";
import { platformMatcher } from "#pkg/platform-match.ts";

export interface SandboxImageParts {
  readonly content: ContentStore;
  readonly images: ImageStore;
  readonly transfer: Transferrer;
  /** By the snapshotter's name; undefined where there is none. */
  readonly unpackTarget: (snapshotter: string) => UnpackTarget | undefined;
  readonly locks: KeyedMutex;
  readonly unpackLimiter: Limiter | undefined;
}

/** An image that containers can be made of: its layers are a chain of snapshots. */
export interface UnpackedImage {
  readonly name: string;
  readonly config: ImageRunConfig;
  /** The snapshot on which its containers' stand; empty for an image without layers. */
  readonly chainId: string;
}

/**
 * The image that sandboxes are made of, fetched where it is not there and that is wanted.
 *
 * One that is fetched is marked as CRI's own and as pinned: kubelets leave it alone.
 */
export async function ensureSandboxImage(
  ctx: Context,
  { images, transfer }: Pick<SandboxImageParts, "images" | "transfer">,
  { name, pull }: { readonly name: string; readonly pull: boolean },
): Promise<Image> {
  const reference = normalizeDockerReference(name);
  try {
    return await images.get(ctx, reference);
  } catch (error) {
    if (!isNotFound(error) || !pull) {
      throw wrap(`failed to get sandbox image ${quote(reference)}`, error);
    }
  }
  ctx.logger.info("pulling the image of sandboxes", { image: reference });
  try {
    await transfer.transfer(
      ctx,
      {
        kind: "registry",
        reference,
        headers: {},
        hostDir: "",
        defaultScheme: "",
        credentials: undefined,
      },
      {
        kind: "store",
        name: reference,
        labels: { [labels.image]: "managed", [labels.pinned]: "pinned" },
        platforms: [hostPlatform()],
        allMetadata: false,
        manifestLimit: 0,
        references: [],
        // By the snapshotter of the sandbox, which transfers may not be configured for.
        unpacks: [],
      },
    );
  } catch (error) {
    throw wrap(`failed to pull image ${quote(reference)}`, error);
  }
  return images.get(ctx, reference);
}

/** Makes sure of its snapshots, and reads what it says of its containers. */
export async function unpackedImage(
  ctx: Context,
  parts: SandboxImageParts,
  image: Image,
  snapshotter: string,
): Promise<UnpackedImage> {
  const { content, locks, unpackLimiter } = parts;
  const target = parts.unpackTarget(snapshotter);
  if (!target) throw notFound(`snapshotter ${quote(snapshotter)}`);
  const matcher = platformMatcher(hostPlatform());
  const { manifest } = await manifestFor(ctx, content, image.target, matcher);
  const { rootfs } = await readConfig(ctx, content, manifest.config);
  const chainId = chainIds(rootfs.diffIds).at(-1) ?? "";
  if (chainId !== "" && !(await hasSnapshot(ctx, target, chainId))) {
    try {
      await unpackImage(ctx, {
        content,
        target,
        config: manifest.config,
        layers: manifest.layers,
        diffIds: rootfs.diffIds,
        locks,
        limiter: unpackLimiter,
        // It is there, or unpacking says what is not.
        fetch: async () => {},
        progress: undefined,
      });
    } catch (error) {
      throw wrap("error unpacking image", error);
    }
  }
  const config = parseImageRunConfig(await readDocument(ctx, content, manifest.config));
  return { name: image.name, config, chainId };
}

async function hasSnapshot(
  ctx: Context,
  { snapshotter }: UnpackTarget,
  name: string,
): Promise<boolean> {
  try {
    await snapshotter.stat(ctx, name);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}
