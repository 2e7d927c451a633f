import type { OpenQuestions } from "#pkg/archive/adopt-layer.ts";
import type { Compression } from "#pkg/archive/compression.ts";
import type { Growth } from "#pkg/archive/growing-file.ts";
import type { ExtractOptions, ExtractSummary } from "#pkg/archive/layer-extractor.ts";
import type { Digest } from "#pkg/digest.ts";
import type { ErrorCode } from "#pkg/errors.ts";
import type { Fd } from "#pkg/sys/syscall.ts";

/**
 * Work on directory trees that would hold up an event loop; each is done by a worker of
 * `TreeWorkers`.
 */
export interface TreeJobs {
  /**
   * Unpacks a layer, compressed or not, into a directory: from a file, from a file that still grows, or from bytes sent
   * along.
   */
  apply: {
    readonly job: {
      readonly kind: "apply";
      readonly root: string;
      /**
       * A path, or the descriptor of a file whose growth is told by messages. Undefined: the bytes come as input.
       */
      readonly file: string | number | undefined;
      readonly options: ExtractOptions;
    };
    readonly result: AppliedLayer;
  };
  /** Finishes a layer that was unpacked without its parents (adopt-layer.ts). */
  adopt: {
    readonly job: {
      readonly kind: "adopt";
      readonly root: string;
      readonly parents: readonly string[];
      readonly questions: OpenQuestions;
    };
    readonly result: undefined;
  };
  /** Makes a layer of what the upper tree has over the lower one; its bytes come as output. */
  compare: {
    readonly job: {
      readonly kind: "compare";
      readonly lower: string;
      readonly upper: string;
      readonly mtimeMaxNs: bigint | undefined;
      readonly compression: Compression;
    };
    readonly result: ComparedTrees;
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
  /**
   * Copies what is in a directory into another that exists: everything but sockets, hard links as
   * such.
   */
  copy: {
    readonly job: { readonly kind: "copy"; readonly from: string; readonly to: string };
    readonly result: undefined;
  };
  /** See `TreeWorkers.sync`, whose descriptor it is. */
  sync: {
    readonly job: { readonly kind: "sync"; readonly fd: Fd };
    readonly result: undefined;
  };
}

export interface AppliedLayer extends ExtractSummary {
  /** Of the whole uncompressed stream, to its last byte. */
  readonly diffId: Digest;
  readonly sizeBytes: number;
}

export interface ComparedTrees {
  /** Of the uncompressed bytes. */
  readonly diffId: Digest;
  readonly sizeBytes: number;
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
  | { readonly type: "end" }
  | { readonly type: "growth"; readonly growth: Growth }
  | { readonly type: "output-credit" };

/** From a worker: first that it is `ready`, then what becomes of its jobs. */
export type FromWorker = { readonly type: "ready" } | FromJob;

/** `done` or `failed` end a job. */
export type FromJob =
  | { readonly type: "credit" }
  | { readonly type: "output"; readonly chunk: Uint8Array }
  | { readonly type: "done"; readonly result: unknown }
  | { readonly type: "failed"; readonly code: ErrorCode; readonly message: string };

/** Chunks that may be under way to a worker, or from it. */
export const chunksUnderWayMax = 8;
