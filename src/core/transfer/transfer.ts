import type { CredentialSource } from "#core/remotes/credentials.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Labels } from "#pkg/label.ts";
import type { LogFields } from "#pkg/log.ts";
import type { Platform } from "#pkg/platform.ts";

/**
 * Moves images: from a registry into the store (pull), back (push), from an archive (import) and into one (export),
 * from one name to another (tag).
 */
export interface Transferrer {
  /**
   * Resolves when all of it is done: content and snapshots on disk, names in the store. Throws `not-implemented` for
   * a pair of kinds it does not move between.
   */
  transfer(
    ctx: Context,
    source: TransferObject,
    destination: TransferObject,
    options?: TransferOptions,
  ): Promise<void>;
}

export interface TransferOptions {
  readonly progress?: ((progress: Progress) => void) | undefined;
}

/** Something that happened to a thing under way, or to the transfer as a whole where it has no name. */
export interface Progress {
  readonly event: string;
  /** A ref key (`layer-sha256:..`) or an image's name. */
  readonly name?: string;
  /** Names of what led to it. */
  readonly parents?: readonly string[];
  readonly doneBytes?: number;
  readonly totalBytes?: number;
  readonly descriptor?: Descriptor;
}

export type TransferObject = RegistryObject | StoreObject | ImportObject | ExportObject;

/** An image at a registry. */
export interface RegistryObject {
  readonly kind: "registry";
  readonly reference: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Directory of `hosts.toml` files; empty: what the daemon is configured with. */
  readonly hostDir: string;
  /** Empty: https, and http for loopback. */
  readonly defaultScheme: string;
  /** Asked before the daemon's own. */
  readonly credentials: CredentialSource | undefined;
  /** Told what is said to registries and what they answer, without bodies and secrets. */
  readonly httpDump?: ((text: string) => void) | undefined;
  /** Told of names that are looked up for it, and of connections that are made. */
  readonly connectionTrace?: ((event: string, fields: LogFields) => void) | undefined;
}

/** Images by name, with how what is stored is chosen and named. */
export interface StoreObject {
  readonly kind: "store";
  /** May be empty where `references` name what is stored. */
  readonly name: string;
  readonly labels: Labels;
  /** None: all. */
  readonly platforms: readonly Platform[];
  /** Take manifests and configs of other platforms as well, without their layers. */
  readonly allMetadata: boolean;
  /** How many manifests of an index are taken, the best first; 0: all. */
  readonly manifestLimit: number;
  readonly references: readonly ImageReference[];
  readonly unpacks: readonly UnpackRequest[];
}

/** A further name, or the part before the tag of several. */
export interface ImageReference {
  readonly name: string;
  readonly isPrefix: boolean;
  /** Names within an archive may be others than the prefix. */
  readonly allowOverwrite: boolean;
  /** Also store `NAME@DIGEST`. */
  readonly addDigest: boolean;
  /** No `NAME@DIGEST` for what was given a name. */
  readonly skipNamedDigest: boolean;
}

export interface UnpackRequest {
  readonly platform: Platform;
  /** Empty: the configured one of that platform. */
  readonly snapshotter: string;
}

/** An archive that is read once: an OCI layout or what `docker save` writes. */
export interface ImportObject {
  readonly kind: "import";
  /** Empty: compressed in a way to be found out; anything else: plain. */
  readonly mediaType: string;
  /** Compress layers of `docker save` archives that are not. */
  readonly forceCompress: boolean;
  /** May be called once; leaving it ends the other side's sending. */
  read(ctx: Context): AsyncIterable<Buffer>;
}

/** Where an archive is written. */
export interface ExportObject {
  readonly kind: "export";
  readonly mediaType: string;
  /** None: the host's. */
  readonly platforms: readonly Platform[];
  readonly allPlatforms: boolean;
  /** Leave out `manifest.json`, by which `docker load` finds its way. */
  readonly skipCompatibilityManifest: boolean;
  readonly skipNonDistributable: boolean;
  write(ctx: Context, bytes: Uint8Array): Promise<void>;
  /** Nothing follows, and everything has left. */
  finish(ctx: Context): Promise<void>;
  /** Ends it, possibly early. */
  close(): Promise<void>;
}
