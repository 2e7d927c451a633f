import type { ExtractOptions } from "#pkg/archive/layer-extractor.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import type { Digest } from "#pkg/digest.ts";
import type { ErrorCode } from "#pkg/errors.ts";

/** Work on directory trees that would hold up an event loop; each is done by a worker of `TreeWorkers`. */
export interface TreeJobs {
  /** Unpacks a layer, from a file or from bytes sent along, compressed or not, into a directory. */
  apply: {
    readonly job: {
      readonly kind: "apply";
      readonly root: string;
      /** Undefined: the bytes come as input. */
      readonly file: string | undefined;
      readonly options: ExtractOptions;
    };
    readonly result: AppliedLayer;
  };
  usage: {
    readonly job: { readonly kind: "usage"; readonly path: string };
    readonly result: TreeUsage;
  };
  /** Removes a tree; one that is not there is no error. */
  remove: {
    readonly job: { readonly kind: "remove"; readonly path: string };
    readonly result: undefined;
  };
  /** Copies what is in a directory into another that exists: everything but sockets, hard links as such. */
  copy: {
    readonly job: { readonly kind: "copy"; readonly from: string; readonly to: string };
    readonly result: undefined;
  };
  /** Writes back everything of the file system that holds the path. May hang where that does. */
  sync: {
    readonly job: { readonly kind: "sync"; readonly path: string };
    readonly result: undefined;
  };
}

export interface AppliedLayer {
  /** Of the whole uncompressed stream, to its last byte. */
  readonly diffId: Digest;
  readonly sizeBytes: number;
  readonly implied: readonly ByteString[];
  readonly warnings: readonly string[];
}

/** Hard links counted once, the top directory included. */
export interface TreeUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

export type TreeJobKind = keyof TreeJobs;
export type TreeJob = TreeJobs[TreeJobKind]["job"];

/** To a worker. `cancel` is set to 1 from outside to end the job soon. */
export type ToWorker =
  | { readonly type: "job"; readonly job: TreeJob; readonly cancel: SharedArrayBuffer }
  | { readonly type: "chunk"; readonly chunk: Uint8Array }
  | { readonly type: "end" };

/** From a worker; `done` or `failed` end a job. */
export type FromWorker =
  | { readonly type: "credit" }
  | { readonly type: "done"; readonly result: unknown }
  | { readonly type: "failed"; readonly code: ErrorCode; readonly message: string };

/** Chunks of input that may be under way to a worker. */
export const inputChunksMax = 8;
